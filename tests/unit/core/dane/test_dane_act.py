# SPDX-License-Identifier: Apache-2.0
"""What one host's DNS states mean for a session with it."""

from __future__ import annotations

import pytest

from strictmail.core.dane.act import DnsState, HostAction, decide_host, refusal_type
from strictmail.core.dnsvalues import Answer, RecordType, Status, Tlsa
from strictmail.core.tlsrpt.results import ResultType

SECURE, INSECURE = DnsState.SECURE, DnsState.INSECURE
ABSENT, ERROR = DnsState.ABSENT, DnsState.ERROR
GOOD, BAD = Tlsa(3, 1, 1, b"a" * 32), Tlsa(3, 1, 1, b"short")


@pytest.mark.parametrize(
    ("mx", "addresses", "tlsa", "records", "expected"),
    [
        pytest.param(
            SECURE, SECURE, SECURE, [GOOD], "tls-dane", id="DANE", marks=pytest.mark.req("DANE-48")
        ),
        pytest.param(
            SECURE,
            SECURE,
            SECURE,
            [BAD],
            "tls-noauth",
            id="none usable",
            marks=pytest.mark.req("DANE-49"),
        ),
        pytest.param(
            SECURE,
            SECURE,
            SECURE,
            [BAD, GOOD],
            "tls-dane",
            id="one usable",
            marks=pytest.mark.req("DANE-50"),
        ),
        pytest.param(
            SECURE,
            SECURE,
            ABSENT,
            [],
            "opportunistic",
            id="no TLSA",
            marks=pytest.mark.req("DANE-36"),
        ),
        pytest.param(
            SECURE,
            SECURE,
            INSECURE,
            [GOOD],
            "opportunistic",
            id="insecure TLSA, even a good one",
            marks=pytest.mark.req("DANE-51"),
        ),
        pytest.param(
            SECURE,
            SECURE,
            ERROR,
            [],
            "skip-host",
            id="TLSA lookup error",
            marks=pytest.mark.req("DANE-37", "SEC-30"),
        ),
        pytest.param(
            SECURE,
            INSECURE,
            ERROR,
            [],
            "opportunistic",
            id="insecure addresses: TLSA was not asked for",
            marks=pytest.mark.req("DANE-21"),
        ),
        pytest.param(
            SECURE,
            ERROR,
            SECURE,
            [GOOD],
            "skip-host",
            id="address error",
            marks=pytest.mark.req("DANE-12", "SEC-29"),
        ),
        pytest.param(
            SECURE,
            ABSENT,
            SECURE,
            [GOOD],
            "skip-host",
            id="no address",
            marks=pytest.mark.req("DANE-22"),
        ),
        pytest.param(
            ERROR,
            SECURE,
            SECURE,
            [GOOD],
            "delay",
            id="MX error",
            marks=pytest.mark.req("DANE-11", "SEC-29"),
        ),
        pytest.param(
            INSECURE,
            SECURE,
            SECURE,
            [GOOD],
            "opportunistic",
            id="insecure MX",
            marks=pytest.mark.req("DANE-23"),
        ),
        pytest.param(INSECURE, ERROR, ABSENT, [], "skip-host", id="insecure MX, no address"),
    ],
)
def test_states(
    mx: DnsState, addresses: DnsState, tlsa: DnsState, records: list[Tlsa], expected: str
) -> None:
    assert decide_host(mx, addresses, tlsa, records) == HostAction(expected)


@pytest.mark.parametrize(
    ("tlsa", "records", "expected"),
    [
        pytest.param(SECURE, [GOOD], "skip-host", id="usable: never in the clear"),
        pytest.param(SECURE, [BAD], "skip-host", id="unusable: never in the clear"),
        pytest.param(ABSENT, [], "opportunistic", id="nothing to hold it to"),
        pytest.param(ERROR, [], "skip-host", id="unknown"),
    ],
)
@pytest.mark.req("DANE-76")
def test_without_starttls(tlsa: DnsState, records: list[Tlsa], expected: str) -> None:
    assert decide_host(SECURE, SECURE, tlsa, records, starttls=False) == HostAction(expected)


@pytest.mark.parametrize(
    ("mx", "addresses", "tlsa", "records", "expected"),
    [
        pytest.param(SECURE, SECURE, SECURE, [GOOD], "tls-dane", id="as demanded"),
        pytest.param(SECURE, SECURE, ABSENT, [], "skip-host", id="no TLSA"),
        pytest.param(SECURE, SECURE, SECURE, [BAD], "skip-host", id="none usable"),
        pytest.param(SECURE, INSECURE, ABSENT, [], "skip-host", id="insecure addresses"),
        pytest.param(
            INSECURE,
            SECURE,
            SECURE,
            [GOOD],
            "delay",
            id="insecure MX",
            marks=pytest.mark.req("DANE-27"),
        ),
    ],
)
@pytest.mark.req("DANE-79")
def test_mandatory_dane(
    mx: DnsState, addresses: DnsState, tlsa: DnsState, records: list[Tlsa], expected: str
) -> None:
    assert decide_host(mx, addresses, tlsa, records, mandatory=True) == HostAction(expected)


@pytest.mark.req("DANE-24")
def test_tlsa_behind_an_insecure_mx_is_a_choice() -> None:
    action = decide_host(INSECURE, SECURE, SECURE, [GOOD], insecure_mx=True)
    assert action is HostAction.TLS_DANE


@pytest.mark.req("DANE-03", "DANE-04", "DANE-05", "DANE-06")
@pytest.mark.parametrize(
    ("status", "secure", "records", "expected"),
    [
        (Status.OK, True, (GOOD,), SECURE),
        (Status.OK, False, (GOOD,), INSECURE),
        (Status.NODATA, True, (), ABSENT),
        (Status.NXDOMAIN, False, (), ABSENT),
        (Status.BOGUS, False, (), ERROR),
        (Status.SERVFAIL, False, (), ERROR),
        (Status.TIMEOUT, False, (), ERROR),
        (Status.MALFORMED, False, (), ERROR),
    ],
)
def test_state_of_an_answer(
    status: Status, secure: bool, records: tuple[Tlsa, ...], expected: DnsState
) -> None:
    answer = Answer("_25._tcp.mx.test", RecordType.TLSA, status, secure, records)
    assert DnsState.of(answer) is expected


@pytest.mark.req("RPT-JSON-35", "RPT-JSON-36", "RPT-JSON-37", "RPT-JSON-38")
@pytest.mark.parametrize(
    ("mx", "tlsa", "records", "mandatory", "expected"),
    [
        pytest.param(SECURE, SECURE, [GOOD], False, None, id="DANE"),
        pytest.param(SECURE, SECURE, [GOOD], True, None, id="DANE, mandatory"),
        pytest.param(SECURE, ABSENT, [], False, None, id="no TLSA"),
        pytest.param(SECURE, INSECURE, [GOOD], False, None, id="insecure TLSA"),
        pytest.param(SECURE, SECURE, [BAD], False, None, id="none usable: TLS all the same"),
        pytest.param(INSECURE, ABSENT, [], False, None, id="insecure MX"),
        pytest.param(SECURE, ERROR, [], False, "dnssec-invalid", id="TLSA lookup fails"),
        pytest.param(ERROR, ABSENT, [], False, "dnssec-invalid", id="MX lookup fails"),
        pytest.param(SECURE, ERROR, [], True, "dnssec-invalid", id="TLSA fails, mandatory"),
        pytest.param(SECURE, ABSENT, [], True, "dane-required", id="no TLSA, mandatory"),
        pytest.param(SECURE, INSECURE, [GOOD], True, "dane-required", id="insecure, mandatory"),
        pytest.param(INSECURE, SECURE, [GOOD], True, "dane-required", id="insecure MX, mandatory"),
        pytest.param(SECURE, SECURE, [], True, "dane-required", id="empty RRset, mandatory"),
        pytest.param(SECURE, SECURE, [BAD], True, "tlsa-invalid", id="none usable, mandatory"),
    ],
)
def test_how_a_host_is_reported_that_dns_rules_out(
    mx: DnsState, tlsa: DnsState, records: list[Tlsa], mandatory: bool, expected: str | None
) -> None:
    found = refusal_type(mx, tlsa, records, mandatory=mandatory)
    assert (found and str(found)) == expected


@pytest.mark.req("RPT-JSON-35")
def test_a_sender_without_dane_reports_no_dnssec() -> None:
    assert refusal_type(ERROR, ABSENT, dane=False) is ResultType.VALIDATION_FAILURE
    assert refusal_type(SECURE, ERROR, dane=False) is None
