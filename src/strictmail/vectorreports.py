# SPDX-License-Identifier: Apache-2.0
"""Vector classes about TLS reports, for `strictmail.vectors`: their words, and the core's values."""

from __future__ import annotations

import copy
import re
from datetime import date
from typing import TYPE_CHECKING, Any, Final

from strictmail.core.dane.act import DnsState, refusal_type
from strictmail.core.delivery import Certificate, Dane, Handshake, HostState, attempt_delivery
from strictmail.core.errors import ReportSyntaxError
from strictmail.core.sts.fetchrules import judge_body, judge_certificate_error, judge_response
from strictmail.core.sts.values import FetchFailure, Mode, StsPolicy
from strictmail.core.tlsrequired import read_wish
from strictmail.core.tlsrpt.counts import DomainCounts, PolicyCounts
from strictmail.core.tlsrpt.filename import parse_filename
from strictmail.core.tlsrpt.message import parse_subject, report_filename
from strictmail.core.tlsrpt.reading import read_document
from strictmail.core.tlsrpt.report import Identity, build_report, with_unique_id
from strictmail.core.tlsrpt.reportjson import find_faults
from strictmail.core.tlsrpt.results import PolicyType, ResultType
from strictmail.core.tlsrpt.session import ReportedPolicy, report_domain

if TYPE_CHECKING:
    from collections.abc import Callable

_POLICY: Final = StsPolicy(Mode.ENFORCE, 86400, ("mx.example.com",), ())


def run_file(given: str) -> dict[str, Any] | None:
    """`rpt-file`: a name to its parts."""
    found = parse_filename(given)
    if found is None:
        return None
    return {
        "sender": found.sender,
        "domain": found.domain,
        "begin": found.begin,
        "end": found.end,
        "id": found.unique_id or None,
        "gz": found.gzip,
    }


def run_file_build(given: dict[str, Any]) -> str:
    """`rpt-file-build`: a report to the name of its file."""
    counts = DomainCounts()
    domain = report_domain(given["domain"])
    policy = ReportedPolicy(PolicyType.NO_POLICY_FOUND, domain)
    counts.policies[policy] = PolicyCounts(successes=1)
    local, _, submitter = given["contact"].rpartition("@")
    identity = Identity("Organization", f"{local}@{report_domain(submitter)}")
    report = build_report(date.fromisoformat(given["day"]), domain, counts, identity)
    assert report is not None
    named = with_unique_id(report, str(given.get("id") or ""))
    return report_filename(named, is_gzip=given["gz"])


def run_subject(given: str) -> dict[str, str] | None:
    """`rpt-subject`: the value of a header to its parts."""
    found = parse_subject(given)
    if found is None:
        return None
    return {"domain": found.domain, "submitter": found.submitter, "id": found.report_id}


def run_json(given: dict[str, Any]) -> dict[str, str]:
    """`rpt-json`: a report with one member changed, as a writer's and as a reader's."""
    document = copy.deepcopy(given["base_report"])
    *way, last = given["at"].strip("/").split("/")
    place = document
    for step in way:
        place = place[int(step) if isinstance(place, list) else step]
    key = int(last) if isinstance(place, list) else last
    if given.get("del"):
        del place[key]
    else:
        place[key] = given["set"]
    try:
        read_document(document)
    except ReportSyntaxError:
        reader = "reject"
    else:
        reader = "accept"
    return {"writer": "bad" if find_faults(document) else "ok", "reader": reader}


def accepts_json(got: dict[str, str], outcome: str | dict[str, str]) -> bool:
    """A single word is about writers."""
    if isinstance(outcome, str):
        return got["writer"] == outcome
    return all(got[side] == word for side, word in outcome.items())


def run_tls_required(given: Any) -> str:
    """`tls-required`: header lines, perhaps with a MAIL parameter, to the wish."""
    if isinstance(given, dict):
        parameters = given.get("mail_param") or ()
        words = parameters.split() if isinstance(parameters, str) else parameters
        return str(read_wish(given.get("hdr") or (), words))
    return str(read_wish(given))


# --- Result types ---


def run_type(given: str) -> str:
    """`rpt-type`: a situation in words to the result type that it is reported as."""
    for pattern, decide in _SITUATIONS:
        if re.search(pattern, given, re.IGNORECASE):
            found = decide(given)
            return "" if found is None else str(found)
    raise LookupError(f"a situation that nobody has thought of: {given}")


def _host(
    *,
    handshake: Handshake = Handshake.DONE,
    certificate: Certificate = Certificate.VALID,
    dane: Dane = Dane.ABSENT,
    name: str = "mx.example.com",
) -> Callable[[str], ResultType]:
    """What a delivery to such a host reports first."""
    state = HostState(name, handshake=handshake, certificate=certificate, dane=dane)

    def decide(_given: str) -> ResultType:
        return attempt_delivery(_POLICY, [state], mx_secure=True).failures[0].result_type

    return decide


def _fetch(failure: FetchFailure | None) -> Callable[[str], ResultType]:
    assert failure is not None
    return lambda _given: failure.result_type


def _status(given: str) -> ResultType:
    code = re.search(r"\b[1-5]\d\d\b", given)
    failure = judge_response(int(code[0]) if code else 500, "text/plain", None)
    assert failure is not None
    return failure.result_type


def _invalid_body() -> FetchFailure:
    failure = judge_body(b"mode: enforce\n")
    assert isinstance(failure, FetchFailure)
    return failure


def _unreachable(_given: str) -> ResultType:
    # Whatever keeps a body from coming is one type, as in `net.https`.
    return ResultType.STS_POLICY_FETCH_ERROR


def _mandatory(given: str) -> ResultType | None:
    failed = re.search(_LOOKUP_FAILED, given, re.IGNORECASE)
    tlsa = DnsState.ERROR if failed else DnsState.ABSENT
    return refusal_type(DnsState.SECURE, tlsa, mandatory=True)


def _mx_lookup(given: str) -> ResultType | None:
    has_dane = not re.search(r"(without|no|not) DANE", given, re.IGNORECASE)
    return refusal_type(DnsState.ERROR, DnsState.ABSENT, dane=has_dane)


_HOSTNAME_MISMATCH: Final = 62
"""X509_V_ERR_HOSTNAME_MISMATCH."""

_POLICY_HOST: Final = (
    r"policy host|mta-sts\.|https|policy (server|fetch|download|served|larger|too)"
)
_BAD_CHAIN: Final = (
    "self-signed|(un|not )trusted|(unknown|private) (CA|root)|intermediate|issuer|revoked|chain"
    "|constraint|path ?len"
)
_LOOKUP_FAILED: Final = r"bogus|SERVFAIL|time[sd]? ?-?out|fails|failed"

_SITUATIONS: Final[tuple[tuple[str, Callable[[str], ResultType | None]], ...]] = (
    (
        rf"({_POLICY_HOST}).*(certificate|cert\b|self-signed|expired|another name)",
        _fetch(judge_certificate_error(_HOSTNAME_MISMATCH, "Hostname mismatch")),
    ),
    (
        r"policy (body|text|syntax|without|mode)|body (of|without)|max_age|mode |invalid policy",
        _fetch(_invalid_body()),
    ),
    (rf"({_POLICY_HOST}).*\b[1-5]\d\d\b|redirect", _status),
    (rf"({_POLICY_HOST})", _unreachable),
    (r"(mandatory|required) DANE|DANE (is )?(mandatory|required)|dane-only", _mandatory),
    (rf"MX (RRset|lookup|answer|record).*({_LOOKUP_FAILED})|({_LOOKUP_FAILED}) MX", _mx_lookup),
    (rf"TLSA.*({_LOOKUP_FAILED})|({_LOOKUP_FAILED}).*TLSA|DNSSEC", _host(dane=Dane.ERROR)),
    (r"TLSA.*unusable|no usable TLSA|none usable", _host(dane=Dane.UNUSABLE)),
    (r"TLSA|DANE-(EE|TA)", _host(dane=Dane.MISMATCH)),
    (r"STARTTLS|EHLO", _host(handshake=Handshake.NO_STARTTLS)),
    (r"notAfter|expired", _host(certificate=Certificate.EXPIRED)),
    (
        rf"{_BAD_CHAIN}|notBefore|not yet valid",
        _host(certificate=Certificate.UNTRUSTED),
    ),
    (
        r"\bSAN\b|(another|other|wrong) (host|name)|mismatch.*name|name.*mismatch|\bCN\b",
        _host(certificate=Certificate.WRONG_NAME),
    ),
    (r"(not|off|missing).*(policy|mx pattern|listed)", _host(name="other.example.net")),
    (
        r"alert|handshake|protocol|cipher|TLS 1|version|key|algorithm",
        _host(handshake=Handshake.FAILED),
    ),
)
"""The first that fits decides."""
