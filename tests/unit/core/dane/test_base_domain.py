# SPDX-License-Identifier: Apache-2.0
"""Which TLSA questions are asked for a host, and what the answers mean."""

from __future__ import annotations

import pytest

from strictmail.core.dane.base_domain import (
    CandidatePlan,
    Step,
    TlsaVerdict,
    candidates,
    found_state,
    judge_tlsa,
    tlsa_qname,
)
from strictmail.core.dnsvalues import Answer, RecordType, Status, Tlsa
from strictmail.core.mxset import TlsaState

HOST, TARGET = "mx.example.com", "mx7.hoster.example"
GOOD = Tlsa(3, 1, 1, b"a" * 32)
BAD = Tlsa(3, 1, 1, b"short")


def address(
    status: Status = Status.OK, *, secure: bool = True, alias: str = "", family: str = "A"
) -> Answer:
    records = ("192.0.2.1",) if status is Status.OK else ()
    rdtype = RecordType[family]
    return Answer(HOST, rdtype, status, secure, records, canonical_name=alias or HOST)


def cname(status: Status = Status.OK, *, secure: bool) -> Answer:
    records = (TARGET,) if status is Status.OK else ()
    return Answer(HOST, RecordType.CNAME, status, secure, records, canonical_name=HOST)


def tlsa(status: Status, *records: Tlsa, secure: bool = True, alias: str = "") -> Answer:
    name = tlsa_qname(HOST)
    return Answer(name, RecordType.TLSA, status, secure, records, canonical_name=alias or name)


def summary(plan: CandidatePlan) -> tuple[Step, TlsaState, tuple[str, ...]]:
    return plan.step, plan.state, plan.base_domains


def ask(*names: str) -> tuple[Step, TlsaState, tuple[str, ...]]:
    return Step.ASK_TLSA, TlsaState.NOT_ASKED, names


def done(state: TlsaState) -> tuple[Step, TlsaState, tuple[str, ...]]:
    return Step.DONE, state, ()


@pytest.mark.req("DANE-30")
@pytest.mark.parametrize(
    ("host", "port", "qname"),
    [
        ("mx.example.com", 25, "_25._tcp.mx.example.com"),
        ("relay.example", 587, "_587._tcp.relay.example"),
        ("MX.Example.COM.", 25, "_25._tcp.mx.example.com"),
    ],
)
def test_qname(host: str, port: int, qname: str) -> None:
    assert tlsa_qname(host, port) == qname


V6 = address(Status.NODATA, family="AAAA")


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        pytest.param([address(), V6], ask(HOST), id="secure addresses"),
        pytest.param(
            [address(secure=False), V6],
            done(TlsaState.NOT_APPLICABLE),
            id="insecure addresses: not asked",
            marks=pytest.mark.req("DANE-21"),
        ),
        pytest.param(
            [address(Status.NODATA), V6],
            done(TlsaState.NO_ADDRESS),
            id="no addresses",
            marks=pytest.mark.req("DANE-22"),
        ),
        pytest.param([address(Status.NXDOMAIN)], done(TlsaState.NO_ADDRESS), id="no such name"),
        pytest.param(
            [address(Status.SERVFAIL), V6],
            done(TlsaState.NO_ADDRESS),
            id="failed addresses",
            marks=pytest.mark.req("DANE-12"),
        ),
        pytest.param([address(Status.BOGUS), V6], done(TlsaState.NO_ADDRESS), id="bogus"),
        pytest.param(
            [address(), address(Status.TIMEOUT, family="AAAA")],
            ask(HOST),
            id="one family failed, the other is there",
        ),
        pytest.param(
            [address(secure=False), address(family="AAAA")],
            ask(HOST),
            id="one secure answer is enough to look",
        ),
        pytest.param(
            [address(alias=TARGET), V6],
            ask(TARGET, HOST),
            id="a secure alias: expanded first",
            marks=pytest.mark.req("DANE-31"),
        ),
        pytest.param(
            [address(secure=False, alias=TARGET), V6],
            (Step.ASK_CNAME, TlsaState.NOT_ASKED, ()),
            id="an insecure end of an alias: ask for its begin",
            marks=pytest.mark.req("DANE-32"),
        ),
        pytest.param(
            [address(Status.NODATA, alias=TARGET)],
            done(TlsaState.NO_ADDRESS),
            id="an alias to nothing",
        ),
        pytest.param(
            [address(Status.SERVFAIL, alias=TARGET)],
            done(TlsaState.NO_ADDRESS),
            id="an alias that fails on the way",
            marks=pytest.mark.req("DANE-08"),
        ),
    ],
)
def test_candidates(
    addresses: list[Answer], expected: tuple[Step, TlsaState, tuple[str, ...]]
) -> None:
    assert summary(candidates(HOST, addresses)) == expected


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        pytest.param(
            cname(secure=True),
            ask(HOST),
            id="secure: the original name only",
            marks=pytest.mark.req("DANE-32"),
        ),
        pytest.param(
            cname(secure=False),
            done(TlsaState.NOT_APPLICABLE),
            id="insecure: no DANE",
            marks=pytest.mark.req("DANE-33", "DANE-07"),
        ),
        pytest.param(
            cname(Status.SERVFAIL, secure=False),
            done(TlsaState.ERROR),
            id="failed: the host may not be used",
            marks=pytest.mark.req("DANE-08"),
        ),
        pytest.param(cname(Status.NODATA, secure=True), ask(HOST), id="gone, in a signed zone"),
        pytest.param(
            cname(Status.NODATA, secure=False), done(TlsaState.NOT_APPLICABLE), id="gone, unsigned"
        ),
    ],
)
def test_an_alias_with_insecure_addresses(
    first: Answer, expected: tuple[Step, TlsaState, tuple[str, ...]]
) -> None:
    addresses = [address(secure=False, alias=TARGET)]
    assert summary(candidates(HOST, addresses, first)) == expected


@pytest.mark.req("DANE-29")
def test_an_address_is_no_base_domain() -> None:
    plan = candidates("192.0.2.1", [address()])
    assert summary(plan) == done(TlsaState.NOT_APPLICABLE)


def test_a_name_too_long_for_the_prefix() -> None:
    long = ".".join(["a" * 60] * 4) + ".test"
    plan = candidates(long, [Answer(long, RecordType.A, Status.OK, True, ("192.0.2.1",))])
    assert summary(plan) == done(TlsaState.NONE)


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        pytest.param(
            tlsa(Status.OK, GOOD), TlsaVerdict.FOUND, id="secure", marks=pytest.mark.req("DANE-34")
        ),
        pytest.param(tlsa(Status.OK, BAD), TlsaVerdict.FOUND, id="secure and unusable, too"),
        pytest.param(
            tlsa(Status.OK, GOOD, alias="tlsa.hoster.example"),
            TlsaVerdict.FOUND,
            id="an alias at the owner name",
            marks=pytest.mark.req("DANE-35"),
        ),
        pytest.param(
            tlsa(Status.OK, GOOD, secure=False),
            TlsaVerdict.NEXT,
            id="insecure",
            marks=pytest.mark.req("DANE-51", "DANE-36"),
        ),
        pytest.param(
            tlsa(Status.NODATA), TlsaVerdict.NEXT, id="denied", marks=pytest.mark.req("DANE-03")
        ),
        pytest.param(tlsa(Status.NXDOMAIN), TlsaVerdict.NEXT, id="no such name"),
        pytest.param(
            tlsa(Status.NODATA, secure=False),
            TlsaVerdict.NEXT,
            id="an insecure denial is an answer",
            marks=pytest.mark.req("DANE-03", "DANE-06"),
        ),
        *(
            pytest.param(
                tlsa(status, secure=False),
                TlsaVerdict.ERROR,
                id=status.value,
                marks=pytest.mark.req("DANE-37", "DANE-04", "SEC-30"),
            )
            for status in (Status.BOGUS, Status.SERVFAIL, Status.TIMEOUT, Status.MALFORMED)
        ),
    ],
)
def test_judge_tlsa(answer: Answer, verdict: TlsaVerdict) -> None:
    assert judge_tlsa(answer) is verdict


@pytest.mark.req("DANE-48", "DANE-49")
def test_found_state() -> None:
    assert found_state(tlsa(Status.OK, BAD, GOOD)) is TlsaState.USABLE
    assert found_state(tlsa(Status.OK, BAD)) is TlsaState.UNUSABLE
