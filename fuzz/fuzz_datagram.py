# SPDX-License-Identifier: Apache-2.0
"""Any octets are a session or DatagramError, and what is counted of them makes a faultless report.

Nothing else is raised. Each policy of a session is judged or unverified, texts are bounded, and a
day that consists of that session is written, packed under any limit, and read back with its
totals.
"""

from __future__ import annotations

import gzip
import json
from datetime import date
from typing import TYPE_CHECKING

from harness import instrumented, run

with instrumented():
    from strictmail.core.errors import DatagramError
    from strictmail.core.mta.datagram import MAX_RECORD_CHARACTERS, decode_datagram
    from strictmail.core.tlsrpt.counts import Counts
    from strictmail.core.tlsrpt.reading import read_report
    from strictmail.core.tlsrpt.report import Identity, build_report
    from strictmail.core.tlsrpt.reportjson import compress_report, find_faults

if TYPE_CHECKING:
    from collections.abc import Iterator

    from strictmail.core.tlsrpt.session import Session

DAY = date(2025, 5, 22)
TIMES = 3
US = Identity("Sender Org", "tls@sender.example")
MAX_MESSAGE_CHARACTERS = 1000
"""A message quotes at most a piece of what it is about."""

REASONS = frozenset(
    {"empty", "too-large", "not-json", "structure", "version", "domain", "no-policy"}
)

_DETAIL = {
    "c": 205,
    "s": "192.0.2.1",
    "n": "mx.rcpt.example",
    "h": "250-mx.rcpt.example\r\n250 STARTTLS",
    "r": "2001:db8::1",
    "f": "self-signed_certificate",
}
_LINES = ["version: STSv1", "mode: enforce", "mx: *.rcpt.example", "max_age: 86400"]
_STS = {"policy-type": 2, "policy-domain": "rcpt.example", "policy-string": _LINES}
_TLSA = {"policy-type": 1, "policy-domain": "mx.rcpt.example", "policy-string": ["3 1 1 (ab cd)"]}
_NONE = {"policy-type": 2, "policy-string": ["mode: none"], "failure-details": [{"c": 301}], "f": 1}


def seeds() -> Iterator[bytes]:
    """Datagrams of each kind, in the manner of both versions of libtlsrpt."""
    failed = {"failure-details": [_DETAIL, {"c": 901}, {"c": 7}], "t": 3, "f": 1}
    kinds = (
        [_STS | {"mx-host": ["*.rcpt.example"], "t": 0, "f": 0}],
        [_STS | failed],
        [_STS | {"failure-details": [_DETAIL], "t": 1, "f": 1}, _TLSA | {"f": 0}],
        [_NONE, {"policy-type": 9, "policy-domain": "RCPT.Example.", "f": 0}],
        [_STS | {"policy-string": ["mode: testing"]}],
    )
    for policies in kinds:
        content = {"d": "rcpt.example", "pr": "v=TLSRPTv1; rua=mailto:a@b.example"}
        yield json.dumps(content | {"policies": policies}).encode()
        yield json.dumps({"dpv": "1"} | content | {"policies": policies}).encode()


def check(data: bytes) -> None:
    """Raise if the invariant is broken."""
    try:
        session = decode_datagram(data)
    except DatagramError as error:
        _check_error(error)
        return
    assert session == decode_datagram(data)
    assert session.policies or session.unverified
    assert len(session.record) <= MAX_RECORD_CHARACTERS
    session.record.encode()
    _check_report(session, limit=len(data))


def _check_error(error: DatagramError) -> None:
    assert error.reason_code in REASONS
    assert str(error).isascii()
    assert str(error).isprintable()
    assert len(str(error)) <= MAX_MESSAGE_CHARACTERS


def _check_report(session: Session, limit: int) -> None:
    counts = Counts()
    counts.add(DAY, session, TIMES)
    found = counts.domain(DAY, session.domain)
    judged = {one.policy: one.succeeded for one in session.policies}
    told = {policy: of for policy, of in found.policies.items() if not of.unverified}
    assert {policy: of.successes > 0 for policy, of in told.items()} == judged
    assert found.policies.keys() == judged.keys() | set(session.unverified)
    assert all(
        of.successes + of.failures + of.unverified == TIMES for of in found.policies.values()
    )
    report = build_report(DAY, session.domain, found, US)
    assert (report is None) is not bool(session.policies)
    if report is None:
        return
    for size in (2**20, limit):
        written, packed = compress_report(report, size)
        content = gzip.decompress(packed)
        assert find_faults(json.loads(content)) == ()
        totals = [(p.successes, p.failures) for p in read_report(content).policies]
        assert totals == [(p.successes, p.failures) for p in report.policies]
        assert written.sessions == TIMES * len(judged)


if __name__ == "__main__":
    run(check, seeds())
