# SPDX-License-Identifier: Apache-2.0
"""Figures of a run: each domain counted once, in the state that its result says."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.checker.results import NOON, address, chain, finding, host, result, sender, sts

from strictmail.checker import states
from strictmail.checker.resultfile import encode_line
from strictmail.checker.states import DaneState, StarttlsState, StsState, TlsrptState
from strictmail.checker.stats import Stats, collect_stats, count_results, render_stats
from strictmail.core.check.result import Prediction, SenderClass, Severity, TlsrptResult

if TYPE_CHECKING:
    from pathlib import Path

UNKNOWN_STS = (finding("STS001", Severity.UNKNOWN),)


@pytest.mark.parametrize(
    ("values", "state"),
    [
        ({"sts": sts("enforce")}, StsState.ENFORCE),
        ({"sts": sts("testing")}, StsState.TESTING),
        ({"sts": sts("none")}, StsState.NONE),
        # Looked at well, and something beside it was not: still what it is.
        ({"sts": sts("enforce"), "findings": UNKNOWN_STS}, StsState.ENFORCE),
        ({"sts": sts(failure="no TXT record")}, StsState.ABSENT),
        ({"sts": sts(record=("v=spf1 -all",), failure="x")}, StsState.ABSENT),
        ({"sts": sts(record=("v=STSv1; id",), failure="x")}, StsState.INVALID_RECORD),
        ({"sts": sts(failure="x", result_type="sts-policy-fetch-error")}, StsState.FETCH_ERROR),
        ({"sts": sts(failure="x", result_type="sts-webpki-invalid")}, StsState.WEBPKI_INVALID),
        ({"sts": sts(failure="x", result_type="sts-policy-invalid")}, StsState.INVALID_POLICY),
        ({"sts": sts(failure="the lookup failed"), "findings": UNKNOWN_STS}, StsState.UNKNOWN),
    ],
)
def test_state_of_mta_sts(values: dict[str, Any], state: StsState) -> None:
    assert states.sts_state(result(**values)) is state


def tlsa(state: str, *outcomes: str) -> Any:
    chains = (chain(dane=outcome) for outcome in outcomes)
    return host("mx.example.com", address("192.0.2.1", *chains), tlsa_state=state)


@pytest.mark.parametrize(
    ("hosts", "state"),
    [
        ((tlsa("usable", "authenticated"),), DaneState.FULL),
        ((tlsa("usable", "authenticated"), tlsa("none")), DaneState.PARTIAL),
        ((tlsa("usable", "authenticated"), tlsa("error")), DaneState.PARTIAL),
        ((tlsa("usable", "authenticated", "mismatch"),), DaneState.FAILING),
        ((tlsa("usable", "expired"), tlsa("none")), DaneState.FAILING),
        # No session: nobody saw a chain that does not match.
        ((tlsa("usable"),), DaneState.FULL),
        ((tlsa("unusable"),), DaneState.UNUSABLE),
        ((tlsa("none"), tlsa("not-applicable")), DaneState.NONE),
        ((tlsa("not-asked"),), DaneState.NONE),
        ((tlsa("error"), tlsa("none")), DaneState.UNKNOWN),
        ((), DaneState.UNKNOWN),
    ],
)
def test_state_of_dane(hosts: tuple[Any, ...], state: DaneState) -> None:
    assert states.dane_state(result(hosts=hosts)) is state


@pytest.mark.parametrize("dnssec", ["indeterminate", "bogus"])
def test_without_dnssec_nothing_is_known_of_dane(dnssec: str) -> None:
    made = result(hosts=(tlsa("not-asked"),), dnssec=dnssec)
    assert states.dane_state(made) is DaneState.UNKNOWN


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        (["tls", "tls-outdated"], StarttlsState.ALL),
        (["tls", "unknown"], StarttlsState.ALL),
        (["tls", "no-starttls"], StarttlsState.SOME),
        (["tls-failed", "starttls-refused", "injected"], StarttlsState.NONE),
        (["unknown"], StarttlsState.UNKNOWN),
    ],
)
def test_state_of_starttls(outcomes: list[str], state: StarttlsState) -> None:
    addresses = [address(f"192.0.2.{n}", outcome=word) for n, word in enumerate(outcomes)]
    assert states.starttls_state(result(hosts=(host("mx", *addresses),))) is state


@pytest.mark.parametrize(
    ("record", "rua", "findings", "state"),
    [
        (("v=TLSRPTv1; rua=mailto:a@b",), ("mailto:a@b",), (), TlsrptState.PRESENT),
        (("v=TLSRPTv1; rua=",), (), (), TlsrptState.INVALID),
        (("other",), (), (), TlsrptState.ABSENT),
        ((), (), (), TlsrptState.ABSENT),
        ((), (), (finding("RPT001", Severity.UNKNOWN),), TlsrptState.UNKNOWN),
    ],
)
def test_state_of_tlsrpt(record: Any, rua: Any, findings: Any, state: TlsrptState) -> None:
    made = result(tlsrpt=TlsrptResult(record, rua), findings=findings)
    assert states.tlsrpt_state(made) is state


def sample() -> list[Any]:
    google = host("aspmx.l.google.com", address("192.0.2.1", chain()), address("::1", chain()))
    secured = host(
        "mx.a.example",
        address("192.0.2.2", chain(dane="authenticated", tls_version="TLSv1.2")),
        tlsa_state="usable",
    )
    return [
        result("a.example", hosts=(secured,), sts=sts("enforce"), dnssec="secure"),
        result("b.example", hosts=(google,), receiver="Google", sts=sts("testing"),
               status=Severity.WARNING, checked_at=NOON + timedelta(days=1)),
        result("c.example", hosts=(google,), receiver="Google", status=Severity.CRITICAL,
               senders=(sender(SenderClass.MTA_STS, Prediction.PLAINTEXT),),
               findings=(finding("TLS001", Severity.CRITICAL, subject="x"),
                         finding("TLS001", Severity.CRITICAL, subject="y"),
                         finding("CHK001", Severity.UNKNOWN), finding("MX001", Severity.OK))),
        result("null.example", hosts=(), mx_status="null", senders=()),
    ]  # fmt: skip


def test_figures_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "out"
    lines = [encode_line(made) for made in sample()]
    # An earlier line of the same domain does not count, nor does a line cut by a kill.
    path.write_bytes(encode_line(result("b.example")) + b"".join(lines) + lines[0][:99])
    stats = collect_stats(path)
    assert (stats.domains, stats.with_mail, stats.both) == (4, 3, 1)
    assert (stats.first_at, stats.last_at) == (NOON, NOON + timedelta(days=1))
    assert stats.status == {"ok": 2, "warning": 1, "critical": 1}
    assert stats.mx == {"found": 3, "null": 1}
    assert stats.sts == {"enforce": 1, "testing": 1, "no record": 2}
    assert stats.dane == {"all hosts": 1, "none": 2}
    assert stats.starttls == {"all addresses": 3}
    assert stats.tls_versions == {"TLSv1.3": 4, "TLSv1.2": 1}
    assert stats.receivers == {"Google": 2}
    assert stats.operators == {"google.com": 2, "a.example": 1}
    assert stats.operator_count == 2
    assert stats.senders == {"mta-sts": {"encrypted": 2, "plaintext": 1}}
    # Twice at one domain is one domain; praise is no finding here.
    assert [(f.id, f.domains) for f in stats.findings] == [("CHK001", 1), ("TLS001", 1)]


@given(st.lists(st.sampled_from(sample()), max_size=12))
def test_the_parts_add_up(results: list[Any]) -> None:
    stats = count_results(results)
    for counts in (stats.status, stats.mx, stats.dnssec, stats.sts, stats.tlsrpt):
        assert sum(counts.values()) == stats.domains == len(results)
    for counts in (stats.dane, stats.starttls):
        assert sum(counts.values()) == stats.with_mail


def test_as_text() -> None:
    text = render_stats(count_results(sample()))
    assert text.startswith("4 domains, 3 of them with mail, checked 2026-01-01 to 2026-01-02\n")
    assert "MTA-STS and DANE both: 1 (33.3%)" in text
    assert (
        "\nMTA-STS\n  enforce    1   25.0%\n  testing    1   25.0%\n  no record  2   50.0%\n"
        in text
    )
    assert "  TLS001 critical: a title" in text


def test_as_json() -> None:
    document = json.loads(render_stats(count_results(sample()), "json"))
    assert document["schema"] == 1
    assert document["senders"]["mta-sts"]["encrypted"] == 2
    assert document["findings"][0]["id"] == "CHK001"


HOSTILE = "</title><script>alert(1)</script>\"'&\x00\x1b\u2028\ud800"


def hostile() -> Stats:
    made = result(
        "x.example",
        receiver=HOSTILE,
        status=Severity.CRITICAL,
        hosts=(host('mx.<b>&"\x00', address("::1", chain(tls_version=HOSTILE))),),
        mx_status="found",
        dnssec="secure",
        findings=(finding("TLS001", title=HOSTILE),),
    )
    return count_results([made])


@pytest.mark.parametrize("stats", [count_results(sample()), count_results([]), hostile()])
def test_the_picture_is_one_whole_svg_that_says_itself_in_words(stats: Stats) -> None:
    root = ET.fromstring(render_stats(stats, "svg"))
    space = "{http://www.w3.org/2000/svg}"
    assert root.tag == f"{space}svg"
    assert root.get("role") == "img"
    title, desc = root.find(f"{space}title"), root.find(f"{space}desc")
    assert title is not None
    assert desc is not None
    assert root.get("aria-labelledby") == f"{title.get('id')} {desc.get('id')}"
    assert f"{stats.domains} domains" in (title.text or "")
    for count in stats.sts.values():
        assert str(count) in (desc.text or "")
    assert {element.tag for element in root.iter()} <= {
        f"{space}{tag}" for tag in ("svg", "title", "desc", "style", "g", "text", "rect", "line")
    }
    for element in root.iter():
        assert all(float(element.get(name, "0")) >= 0 for name in ("width", "height"))


def test_no_label_is_longer_than_its_room() -> None:
    long = host("mx." + "x" * 60 + ".example", address("::1", chain()))
    picture = render_stats(count_results([result(hosts=(long,))]), "svg")
    root = ET.fromstring(picture)
    texts = [e.text or "" for e in root.iter("{http://www.w3.org/2000/svg}text")]
    assert any(text.endswith("\u2026") and len(text) < 30 for text in texts)
    assert "x" * 60 in picture


@pytest.mark.parametrize("stats", [count_results(sample()), count_results([]), hostile()])
def test_the_page_needs_nothing_from_elsewhere(stats: Stats) -> None:
    page = render_stats(stats, "html")
    page.encode()
    assert "<script" not in page
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page
    assert "src=" not in page
    assert "url(" not in page
    assert "default-src 'none'" in page
    assert page.count("<svg") == 1
