# SPDX-License-Identifier: Apache-2.0
"""What counts as a change between two runs, and which way it goes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.checker.results import (
    address,
    certificate,
    chain,
    finding,
    host,
    result,
    sender,
    sts,
)

from strictmail.checker.diff import Direction, diff_files, diff_results, render_diff
from strictmail.checker.resultfile import encode_line
from strictmail.core.check.result import Prediction, SenderClass, Severity, TlsrptResult

if TYPE_CHECKING:
    from pathlib import Path

    from strictmail.core.check.result import CheckResult

WORSE, BETTER, NEUTRAL = Direction.WORSE, Direction.BETTER, Direction.NEUTRAL


def verdict(prediction: Prediction, by: str = "") -> dict[str, Any]:
    return {"senders": (sender(SenderClass.DANE, prediction, by=by),)}


def findings(*severities: Severity) -> dict[str, Any]:
    return {"findings": tuple(finding(severity=severity) for severity in severities)}


def leaf(number: int) -> dict[str, Any]:
    return {"hosts": (host("mx.example.com", address("::1", chain(certificate(number)))),)}


@pytest.mark.parametrize(
    ("old", "new", "about", "direction"),
    [
        # Status: unknown is neither worse nor better; a problem that is known now is worse.
        ({"status": Severity.OK}, {"status": Severity.CRITICAL}, "status", WORSE),
        ({"status": Severity.CRITICAL}, {"status": Severity.WARNING}, "status", BETTER),
        ({"status": Severity.OK}, {"status": Severity.UNKNOWN}, "status", NEUTRAL),
        ({"status": Severity.CRITICAL}, {"status": Severity.UNKNOWN}, "status", NEUTRAL),
        ({"status": Severity.UNKNOWN}, {"status": Severity.OK}, "status", NEUTRAL),
        ({"status": Severity.UNKNOWN}, {"status": Severity.WARNING}, "status", WORSE),
        # Findings.
        ({}, findings(Severity.WARNING), "finding", WORSE),
        ({}, findings(Severity.CRITICAL), "finding", WORSE),
        ({}, findings(Severity.OK), "finding", NEUTRAL),
        ({}, findings(Severity.INFO), "finding", NEUTRAL),
        ({}, findings(Severity.UNKNOWN), "finding", NEUTRAL),
        (findings(Severity.CRITICAL), {}, "finding", BETTER),
        (findings(Severity.WARNING), findings(Severity.CRITICAL), "finding", WORSE),
        (findings(Severity.CRITICAL), findings(Severity.WARNING), "finding", BETTER),
        (findings(Severity.UNKNOWN), findings(Severity.CRITICAL), "finding", WORSE),
        (findings(Severity.OK), findings(Severity.WARNING, Severity.OK), "finding", WORSE),
        # Verdicts.
        (verdict(Prediction.AUTHENTICATED), verdict(Prediction.ENCRYPTED), "verdict", WORSE),
        (verdict(Prediction.ENCRYPTED), verdict(Prediction.PLAINTEXT), "verdict", WORSE),
        (verdict(Prediction.PLAINTEXT), verdict(Prediction.DEFERRED), "verdict", WORSE),
        (verdict(Prediction.DEFERRED), verdict(Prediction.AUTHENTICATED), "verdict", BETTER),
        (verdict(Prediction.AUTHENTICATED), verdict(Prediction.UNKNOWN), "verdict", NEUTRAL),
        (verdict(Prediction.UNKNOWN), verdict(Prediction.PLAINTEXT), "verdict", NEUTRAL),
        (
            verdict(Prediction.AUTHENTICATED, "pkix"),
            verdict(Prediction.AUTHENTICATED, "dane"),
            "verdict",
            NEUTRAL,
        ),
        # Policy.
        ({"sts": sts("enforce")}, {"sts": sts("testing")}, "policy", WORSE),
        ({"sts": sts("testing")}, {"sts": sts("enforce")}, "policy", BETTER),
        ({"sts": sts("enforce")}, {"sts": sts("enforce", policy_id="2")}, "policy", NEUTRAL),
        ({"sts": sts("enforce")}, {"sts": sts("enforce", max_age=1)}, "policy", NEUTRAL),
        ({"sts": sts("enforce")}, {"sts": sts("enforce", mx_patterns=())}, "policy", NEUTRAL),
        ({"sts": sts("enforce")}, {"sts": sts(failure="tls")}, "policy", WORSE),
        (
            {"sts": sts("enforce")},
            {"sts": sts(failure="time-out"), "findings": (finding(severity=Severity.UNKNOWN),)},
            "policy",
            NEUTRAL,
        ),
        # Hosts.
        ({}, {"hosts": (host("mx2.example.com"),)}, "mx", NEUTRAL),
        ({}, {"hosts": (host(preference=20),)}, "mx", NEUTRAL),
        ({}, {"hosts": (host(tlsa=("3 1 1 00",)),)}, "tlsa", NEUTRAL),
        (leaf(1), leaf(2), "certificate", NEUTRAL),
        ({}, {"tlsrpt": TlsrptResult((), ("mailto:a@b.example",))}, "tlsrpt", NEUTRAL),
    ],
)
def test_one_change(
    old: dict[str, Any], new: dict[str, Any], about: str, direction: Direction
) -> None:
    found = diff_results(result(**old), result(**new))
    assert found is not None
    assert about in {change.about for change in found.changes}
    assert found.direction is direction


@pytest.mark.parametrize(
    "new",
    [
        pytest.param({}, id="the-same"),
        pytest.param(
            {"seconds": 9.0, "summary": "other words", "strictmail": "2"}, id="another-run"
        ),
        pytest.param({"findings": (finding(sentence="other words"),)}, id="words-of-a-finding"),
        pytest.param(
            {"hosts": (host("mx.example.com", address("192.0.2.1", outcome="unknown")),)},
            id="host-not-looked-at",
        ),
        pytest.param({"sts": sts(failure="no TXT record")}, id="words-of-a-failure"),
        pytest.param({"senders": ()}, id="a-kind-of-sender-not-judged"),
    ],
)
def test_no_change(new: dict[str, Any]) -> None:
    old: dict[str, Any] = {"findings": (finding(),)} if "findings" in new else {}
    if "sts" in new:
        old = {"sts": sts(failure="no TXT record starts with `v=STSv1;`")}
    assert diff_results(result(**old), result(**new)) is None


def test_a_domain_got_worse_if_anything_is() -> None:
    found = diff_results(
        result(sts=sts("testing"), findings=(finding("MX001"),)),
        result(sts=sts("enforce"), findings=(finding("TLS001"),)),
    )
    assert found is not None
    assert found.direction is WORSE
    assert {change.direction for change in found.changes} == {WORSE, BETTER}


@given(st.sampled_from(list(Severity)), st.sampled_from(list(Severity)))
def test_a_change_and_its_reverse_never_both_alarm(old: Severity, new: Severity) -> None:
    there = diff_results(result(status=old), result(status=new))
    back = diff_results(result(status=new), result(status=old))
    assert (there is None) == (back is None) == (old is new)
    if there is not None and back is not None:
        assert not there.direction is back.direction is WORSE


def write(path: Path, *results: CheckResult) -> Path:
    path.write_bytes(b"".join(map(encode_line, results)))
    return path


def test_files_in_any_order(tmp_path: Path) -> None:
    old = write(
        tmp_path / "old",
        result("b.example"),
        result("a.example"),
        result("gone.example"),
        result("c.example", status=Severity.WARNING),
    )
    new = write(
        tmp_path / "new",
        result("c.example"),
        result("new.example"),
        result("a.example", status=Severity.CRITICAL, sts=sts(failure="\x1b[31mtls")),
        result("b.example"),
    )
    diff = diff_files(old, new)
    assert (diff.same, diff.added, diff.removed) == (1, ("new.example",), ("gone.example",))
    assert [(d.domain, d.direction) for d in diff.changed] == [
        ("a.example", WORSE),
        ("c.example", BETTER),
    ]
    assert diff.got_worse
    assert not diff_files(old, old).got_worse
    assert diff_files(old, old).changed == ()

    assert render_diff(diff).splitlines() == [
        "1 worse, 1 better, 0 changed otherwise, 1 as before, 1 added, 1 removed",
        "",
        "a.example: worse",
        "  worse   status: ok -> critical",
        "          policy failure: new: \\x1b[31mtls",
        "",
        "c.example: better",
        "  better  status: warning -> ok",
        "",
        "added:",
        "  new.example",
        "",
        "removed:",
        "  gone.example",
    ]
    document = json.loads(render_diff(diff, "json"))
    assert document["worse"] is True
    assert document["changed"][0]["changes"][0] == {
        "about": "status", "name": "status", "old": "ok", "new": "critical", "direction": "worse",
    }  # fmt: skip
