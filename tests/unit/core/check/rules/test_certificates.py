# SPDX-License-Identifier: Apache-2.0
"""Certificates before the web PKI: a fault weighs what the senders who look make of it."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.core.check import builders as b

from strictmail.core.check.facts import KeyType, PkixFacts, PkixProblem
from strictmail.core.check.result import Severity
from strictmail.core.check.rules import certificatekinds as kinds
from strictmail.core.check.rules import certificates
from strictmail.core.mxset import MxHost, TlsaState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from strictmail.core.check.facts import DomainFacts, TlsFacts
    from strictmail.core.check.kinds import Kind
    from strictmail.core.dnsvalues import Tlsa

CRITICAL, WARNING, INFO = Severity.CRITICAL, Severity.WARNING, Severity.INFO

V4, V6 = b.IPV4[b.MX1], b.IPV6[b.MX1]
TESTING: Final = b.BODY.replace(b"enforce", b"testing")
NONE: Final = b.BODY.replace(b"enforce", b"none")


def with_tls(*sessions: TlsFacts, tlsa: Sequence[Tlsa] = (), **changes: Any) -> DomainFacts:
    """One MX host with these sessions at one address, and no TLSA records unless given."""
    facts = b.domain_facts(hosts_named=(b.MX1,), **changes)
    mx_host = MxHost(b.MX1, 10, TlsaState.NONE)
    if tlsa:
        mx_host = MxHost(b.MX1, 10, TlsaState.USABLE, b.MX1, tuple(tlsa))
    host = replace(facts.hosts[0], probes=tuple(b.probe(b.MX1, V4, tls=tls) for tls in sessions))
    return replace(facts, mx=replace(facts.mx, hosts=(mx_host,)), hosts=(host,))


def with_problem(problem: PkixProblem, **changes: Any) -> DomainFacts:
    return with_tls(b.tls(b.MX1, problems=[problem]), **changes)


def with_leaf(leaf: bytes, **changes: Any) -> DomainFacts:
    return with_tls(b.tls(b.MX1, chain_der=(leaf, b.intermediate())), **changes)


RSA_LEAF: Final = b.leaf(b.MX1, key="rsa-2048")
RSA: Final = b.tls(b.MX1, chain_der=(RSA_LEAF, b.intermediate()), key_type=KeyType.RSA)
BAD_RSA: Final = replace(RSA, pkix=PkixFacts(b.MX1, (PkixProblem.EXPIRED,)))
EE: Final = (b.tlsa(b.leaf(b.MX1)),)
TA: Final = (b.tlsa(b.intermediate(), usage=2),)
SOON: Final = b.leaf(b.MX1, days_left=5.5, days_old=84)
SHUFFLED: Final = b.tls(b.MX1, chain_der=(b.leaf(b.MX1), b.root(), b.intermediate()))
SMALL: Final = b.leaf(b.MX1, key="rsa-1024")
HASHED: Final = b.leaf_with_hash(b.MX1, "sha1")

BROKEN: Final = base64.b64decode(
    "MIIBjTCCATegAwIBAgIUOmVnKmoG0d7ZMTNa47PScI16aUowDQYJKoZIhvcNAQELBQAwGjEYMBYGA1UEAwwPbXgx"
    "LmV4YW1wbGUuY29tMCAXDTI2MTEyNTAyMDA0NloYDzIxMjYxMTAxMDIwMDQ2WjAaMRgwFgYDVQQDDA9teDEuZXhh"
    "bXBsZS5jb20wXDANBgkqhkiG9w0BAQEFAANLADBIAkEA1604Liut/by6n+iwg0wQBYqEmVNsWuW6NqRjGplpZXkY"
    "kC/broYCaZzFwIfVibyN9hSeccXxU5s1hiqELWj4VwIDAQABo1MwUTAdBgNVHQ4EFgQUCIk/ncr5IsGTpreOhY9f"
    "2H+QmfwwHwYDVR0jBBgwFoAUCIk/ncr5IsGTpreOhY9f2H+QmfwwDwYDVR0TAQH/BAUwAwEB/zANBgkqhkiG9w0B"
    "AQsFAANBABdYKaw4mncP2VhgHQ3AwzaJyudFYB9xD1SEpuqksCpAepJ8l2qCypYMdBO9bI3seE5BeoL66PrV1s5x"
    "ywqczOk="
)
"""Self-signed, with an RSA key of 512 bits, as no library makes one any more."""

_BY_PROBLEM: Final = {
    PkixProblem.EXPIRED: kinds.EXPIRED,
    PkixProblem.NOT_YET_VALID: kinds.NOT_YET_VALID,
    PkixProblem.SELF_SIGNED: kinds.SELF_SIGNED,
    PkixProblem.UNTRUSTED_ROOT: kinds.UNTRUSTED_ROOT,
    PkixProblem.MISSING_INTERMEDIATE: kinds.MISSING_INTERMEDIATE,
    PkixProblem.NAME: kinds.WRONG_NAME,
    PkixProblem.INVALID: kinds.INVALID,
}

CASES: Final[dict[str, tuple[Kind, DomainFacts, Severity]]] = {
    **{
        f"{problem}-enforce": (kind, with_problem(problem), CRITICAL)
        for problem, kind in _BY_PROBLEM.items()
    },
    **{
        f"{problem}-testing": (kind, with_problem(problem, body=TESTING), WARNING)
        for problem, kind in _BY_PROBLEM.items()
    },
    "expired-alone": (kinds.EXPIRED, with_problem(PkixProblem.EXPIRED, body=NONE), WARNING),
    "expired-dane": (
        kinds.EXPIRED,
        with_problem(PkixProblem.EXPIRED, body=NONE, tlsa=EE),
        INFO,
    ),
    "expired-both": (kinds.EXPIRED, with_problem(PkixProblem.EXPIRED, tlsa=EE), CRITICAL),
    "self-signed-alone": (
        kinds.SELF_SIGNED,
        with_problem(PkixProblem.SELF_SIGNED, body=NONE),
        INFO,
    ),
    "soon-enforce": (kinds.ENDS_SOON, with_leaf(SOON), WARNING),
    "soon-alone": (kinds.ENDS_SOON, with_leaf(SOON, body=NONE), INFO),
    "soon-dane-ta": (kinds.ENDS_SOON, with_leaf(SOON, body=NONE, tlsa=TA), WARNING),
    "order-enforce": (kinds.DISORDER, with_tls(SHUFFLED), WARNING),
    "order-alone": (kinds.DISORDER, with_tls(SHUFFLED, body=NONE), INFO),
    "small": (kinds.WEAK_KEY, with_leaf(SMALL), WARNING),
    "broken": (kinds.BROKEN_KEY, with_leaf(BROKEN), CRITICAL),
    "broken-alone": (kinds.BROKEN_KEY, with_leaf(BROKEN, body=NONE), WARNING),
    "hash": (kinds.WEAK_SIGNATURE, with_leaf(HASHED), WARNING),
    "two": (kinds.TWO_CHAINS, with_tls(b.tls(b.MX1), RSA), INFO),
    "one-of-two": (kinds.ONE_OF_TWO, with_tls(b.tls(b.MX1), BAD_RSA), WARNING),
    "one-of-two-alone": (kinds.ONE_OF_TWO, with_tls(b.tls(b.MX1), BAD_RSA, body=NONE), INFO),
}


def test_every_kind_has_a_case() -> None:
    assert {case[0].id for case in CASES.values()} == {kind.id for kind in kinds.KINDS}


@pytest.mark.req("STS-APP-31", "STS-APP-32", "STS-APP-33", "STS-APP-39")
@pytest.mark.parametrize(("kind", "facts", "severity"), CASES.values(), ids=CASES)
def test_a_kind_is_brought_forth(kind: Kind, facts: DomainFacts, severity: Severity) -> None:
    found = b.of_kind(b.judged(certificates.judge, facts), kind)
    assert [finding.severity for finding in found] == [severity]


def test_the_good_domain_is_good() -> None:
    assert b.judged(certificates.judge, b.domain_facts()) == ()


@pytest.mark.req("STS-APP-33", "STS-APP-34")
def test_a_wrong_name_says_which_names_there_are_and_which_is_wanted() -> None:
    leaf = b.leaf("a.example", "b.example")
    tls = b.tls(b.MX1, chain_der=(leaf, b.intermediate()), problems=[PkixProblem.NAME])
    sentence = b.the_one(b.judged(certificates.judge, with_tls(tls)), kinds.WRONG_NAME).sentence
    assert "It names `a.example`, `b.example`; wanted is `mx1.example.com`." in sentence
    bare = b.tls(b.MX1, chain_der=(HASHED,), problems=[PkixProblem.NAME])
    sentence = b.the_one(b.judged(certificates.judge, with_tls(bare)), kinds.WRONG_NAME).sentence
    assert "no dNSName at all" in sentence


def test_dane_is_told_to_be_content() -> None:
    facts = with_problem(PkixProblem.SELF_SIGNED, tlsa=EE)
    sentence = b.the_one(b.judged(certificates.judge, facts), kinds.SELF_SIGNED).sentence
    assert "MTA-STS do not deliver" in sentence
    assert "senders with DANE" in sentence


def test_two_addresses_with_one_chain_are_one_finding() -> None:
    facts = with_problem(PkixProblem.EXPIRED)
    tls = facts.hosts[0].probes[0].tls
    host = replace(
        facts.hosts[0], probes=(b.probe(b.MX1, V4, tls=tls), b.probe(b.MX1, V6, tls=tls))
    )
    found = b.of_kind(b.judged(certificates.judge, replace(facts, hosts=(host,))), kinds.EXPIRED)
    assert [finding.subject for finding in found] == [b.MX1]


def test_the_address_with_the_old_certificate_is_named() -> None:
    good, bad = b.tls(b.MX1), b.tls(b.MX1, problems=[PkixProblem.EXPIRED])
    facts = with_tls(good)
    host = replace(
        facts.hosts[0], probes=(b.probe(b.MX1, V4, tls=good), b.probe(b.MX1, V6, tls=bad))
    )
    finding = b.the_one(b.judged(certificates.judge, replace(facts, hosts=(host,))), kinds.EXPIRED)
    assert finding.subject == f"{b.MX1}[{V6}]"


def test_what_another_name_was_asked_for_is_not_judged_here() -> None:
    other = b.tls(b.MX1, server_name="target.example.net", problems=[PkixProblem.NAME])
    assert b.judged(certificates.judge, with_tls(b.tls(b.MX1), other)) == ()


@pytest.mark.parametrize(
    ("days_left", "days_old", "soon"),
    [
        pytest.param(13.5, 76, True, id="90-days-renewed-late"),
        pytest.param(14.5, 75, False, id="90-days-in-time"),
        pytest.param(13.5, 33, False, id="47-days-in-time"),
        pytest.param(11, 36, True, id="47-days-renewed-late"),
        pytest.param(3, 3, False, id="six-days-half-way"),
        pytest.param(1, 5, True, id="six-days-renewed-late"),
        pytest.param(13, 352, True, id="one-year"),
    ],
)
def test_when_a_certificate_ends_soon(days_left: float, days_old: float, *, soon: bool) -> None:
    leaf = b.leaf(b.MX1, days_left=days_left, days_old=days_old)
    found = b.of_kind(b.judged(certificates.judge, with_leaf(leaf)), kinds.ENDS_SOON)
    assert bool(found) is soon


def test_an_expired_certificate_does_not_also_end_soon() -> None:
    tls = b.tls(b.MX1, chain_der=(SOON, b.intermediate()), problems=[PkixProblem.EXPIRED])
    assert not b.of_kind(b.judged(certificates.judge, with_tls(tls)), kinds.ENDS_SOON)


@given(
    st.lists(st.one_of(st.binary(max_size=60), st.just(b.leaf(b.MX1))), max_size=4),
    st.sets(st.sampled_from(PkixProblem)),
)
def test_any_chain_is_judged(chain: list[bytes], problems: set[PkixProblem]) -> None:
    b.judged(certificates.judge, with_tls(b.tls(b.MX1, chain_der=chain, problems=sorted(problems))))
