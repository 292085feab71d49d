# SPDX-License-Identifier: Apache-2.0
"""parsedmarc, which most receivers use, reads every report that strictmail makes."""

from __future__ import annotations

import base64
import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.core.tlsrpt.reports import (
    AT,
    EXPIRED,
    NO_POLICY,
    STS,
    TLSA,
    UNTRUSTED,
    US,
    report_of,
    reports,
)

from strictmail.core.tlsrpt.counts import PolicyCounts
from strictmail.core.tlsrpt.message import build_message
from strictmail.core.tlsrpt.report import Identity
from strictmail.core.tlsrpt.reportjson import compress_report, encode_report
from strictmail.core.tlsrpt.results import ResultType
from strictmail.core.tlsrpt.session import FailureDetail, make_detail

if TYPE_CHECKING:
    from collections.abc import Iterator

    from strictmail.core.tlsrpt.report import Report

ROOT = Path(__file__).resolve().parents[3]
PYTHON = ROOT / ".venv" / "reportreader" / "bin" / "python"
CHILD = Path(__file__).with_name("readerchild.py")

# One process for the module: to import it takes seconds.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("parsedmarc")]


class Reader:
    """The child, asked line by line."""

    def __init__(self) -> None:
        assert PYTHON.exists(), "parsedmarc is missing: run scripts/setup reportreader"
        self._process = subprocess.Popen(
            [PYTHON, CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def read(self, kind: str, data: bytes) -> dict[str, Any]:
        """What parsedmarc makes of a report."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = json.dumps({kind: base64.b64encode(data).decode()})
        self._process.stdin.write(asked.encode() + b"\n")
        self._process.stdin.flush()
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        assert "error" not in found, found
        assert found["report_type"] == "smtp_tls"
        report: dict[str, Any] = found["report"]
        return report

    def close(self) -> None:
        """End the child."""
        self._process.communicate()


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    made = Reader()
    yield made
    made.close()


def expected(report: Report) -> dict[str, Any]:
    """A report in parsedmarc's words, as far as it reads them."""
    return {
        "organization_name": report.identity.organization_name,
        "begin_date": report.begin.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "end_date": report.end.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "contact_info": report.identity.contact_info,
        "report_id": report.report_id,
        "policies": [
            _without_nothing(
                policy_domain=part.policy.policy_domain,
                policy_type=str(part.policy.policy_type),
                policy_strings=list(part.policy.policy_strings),
                successful_session_count=part.successes,
                failed_session_count=part.failures,
                failure_details=[_detail(detail, times) for detail, times in part.details],
            )
            for part in report.policies
        ],
    }


def _detail(detail: FailureDetail, times: int) -> dict[str, Any]:
    return _without_nothing(
        result_type=str(detail.result_type),
        failed_session_count=times,
        sending_mta_ip=detail.sending_mta_ip,
        receiving_ip=detail.receiving_ip,
        receiving_mx_hostname=detail.receiving_mx_hostname,
        receiving_mx_helo=detail.receiving_mx_helo,
        failure_reason_code=detail.failure_reason_code,
        additional_info_uri=detail.additional_information,
    )


def _without_nothing(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value not in ("", [])}


def check(reader: Reader, report: Report, limit: int = 2**20) -> None:
    """All three forms in which a report leaves."""
    written, packed = compress_report(report, limit)
    mail = build_message(
        written, packed, sender="noreply@sender.example", recipients=["tls@rcpt.example"], at=AT
    )
    wanted = expected(written)
    assert reader.read("file", encode_report(written)) == wanted
    assert reader.read("file", packed) == wanted
    assert reader.read("mail", mail) == wanted


ALL_TYPES = {
    replace(STS, policy_domain=f"d{number}.example"): PolicyCounts(
        number, 1, {make_detail(result_type, failure_reason_code="why not"): 1}
    )
    for number, result_type in enumerate(ResultType)
}
LARGE = {
    STS: PolicyCounts(
        10**9, 500, {replace(EXPIRED, receiving_ip=f"2001:db8::{n:x}"): 1 for n in range(1, 501)}
    )
}


@pytest.mark.req(
    "RPT-JSON-02", "RPT-JSON-09", "RPT-JSON-11", "RPT-DLV-15", "RPT-DLV-20", "RPT-DLV-22"
)
@pytest.mark.parametrize(
    ("report", "limit"),
    [
        pytest.param(report_of(), 2**20, id="failures"),
        pytest.param(report_of({NO_POLICY: PolicyCounts(1)}), 2**20, id="heartbeat"),
        pytest.param(
            report_of({STS: PolicyCounts(1), TLSA: PolicyCounts(1, 2, {UNTRUSTED: 2})}),
            2**20,
            id="both",
        ),
        pytest.param(report_of(ALL_TYPES), 2**20, id="every-type"),
        pytest.param(report_of(LARGE), 2**20, id="large"),
        pytest.param(report_of(LARGE), 1500, id="cut"),
        pytest.param(report_of(LARGE), 1, id="cut-to-the-bone"),
        pytest.param(
            report_of(identity=Identity("Grüße <b>& Söhne</b>", "tls@Sender.example")),
            2**20,
            id="odd-identity",
        ),
        pytest.param(report_of(domain="xn--bcher-kva.example"), 2**20, id="idn"),
    ],
)
def test_a_report_is_read(reader: Reader, report: Report, limit: int) -> None:
    check(reader, report, limit)


@given(report=reports(), limit=st.sampled_from([2**20, 600]))
@pytest.mark.req("RPT-JSON-01", "RPT-JSON-02", "RPT-DLV-22")
def test_any_report_is_read(reader: Reader, report: Report, limit: int) -> None:
    check(reader, report, limit)
    assert report.identity == US
