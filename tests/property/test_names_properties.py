# SPDX-License-Identifier: Apache-2.0
"""Names, next-hops and certificate names, held against arbitrary input."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strictmail.core.certname import CertContext, match_certificate
from strictmail.core.errors import DomainSyntaxError, NexthopSyntaxError
from strictmail.core.names import fold, is_ldh_domain, labels, parent, parse_domain
from strictmail.core.nexthop import NexthopKind, parse_nexthop

LABELS = st.one_of(
    st.sampled_from(["a", "b", "mx", "mail-1", "xn--bcher-kva", "x" * 63]),
    st.text("abz019", min_size=1, max_size=6),
)
DOMAINS = st.builds(
    "{}{}".format,
    st.lists(LABELS.map("{}.".format), max_size=2).map("".join),
    st.sampled_from(["example", "test", "xn--p1ai"]),
)
CONTEXTS = st.sampled_from(CertContext)
ALLOWED = set(string.ascii_lowercase + string.digits + "-_.")


@pytest.mark.req("STS-APP-07", "STS-REC-02", "STS-REC-35", "SEC-26")
class TestADomainHasOneForm:
    """RFC 4343 §3, RFC 5890 §2: case and the root dot say nothing; names are A-labels."""

    @given(st.text(max_size=60))
    def test_any_text_is_a_domain_or_a_syntax_error(self, text: str) -> None:
        try:
            name = parse_domain(text)
        except DomainSyntaxError as error:
            message = str(error)
        else:
            message = ""
            assert set(name) <= ALLOWED
            assert 1 <= len(name) <= 253
            assert all(1 <= len(label) <= 63 for label in labels(name))
            assert parse_domain(name) == name
            assert fold(name) == name
        assert message.isascii()
        assert not message or message.isprintable()

    @given(DOMAINS)
    def test_case_and_root_dot(self, domain: str) -> None:
        assert parse_domain(domain.upper() + ".") == domain
        assert is_ldh_domain(domain)

    @given(DOMAINS)
    def test_labels_and_parent_take_a_name_apart(self, domain: str) -> None:
        above = parent(domain)
        assert domain == labels(domain)[0] + (f".{above}" if above else "")
        assert ".".join(labels(domain)) == domain

    @given(st.text(max_size=20))
    def test_folding_is_for_ascii_and_idempotent_but_for_dots(self, text: str) -> None:
        folded = fold(text)
        assert [c for c in folded if not c.isascii()] == [c for c in text if not c.isascii()]
        assert fold(folded + ".") == folded


@pytest.mark.req("STS-APP-02", "STS-APP-03", "STS-APP-04")
class TestAKeyIsOneOfFourForms:
    """§3.4 and §1.1: a domain, an administrator's host, an address, a parent: or nothing."""

    @given(st.text(max_size=40))
    def test_any_key(self, key: str) -> None:
        try:
            nexthop = parse_nexthop(key)
        except NexthopSyntaxError:
            return
        assert 1 <= nexthop.port <= 65535
        assert bool(nexthop.domain) is (nexthop.kind is not NexthopKind.ADDRESS_LITERAL)

    @given(DOMAINS, st.integers(1, 65535))
    def test_domain_host_and_parent(self, domain: str, port: int) -> None:
        assert parse_nexthop(f"{domain}:{port}").port == port
        assert parse_nexthop(f"[{domain.upper()}]:{port}").domain == domain
        assert parse_nexthop(f".{domain}").kind is NexthopKind.PARENT

    @given(st.ip_addresses())
    def test_an_address_has_no_policy_domain(self, address: object) -> None:
        for key in (str(address), f"[{address}]", f"[IPv6:{address}]", f"[{address}]:26"):
            assert parse_nexthop(key).kind is NexthopKind.ADDRESS_LITERAL


@pytest.mark.req("STS-FET-10", "STS-APP-35", "DANE-66", "SEC-32", "SEC-33")
class TestAPresentedStarIsOneWholeLabel:
    """RFC 9525 §6.3: `*` is the whole left-most label, and one label of ours."""

    @given(CONTEXTS, LABELS, DOMAINS)
    def test_one_label(self, context: CertContext, label: str, domain: str) -> None:
        assert match_certificate(context, [f"{label}.{domain}"], [f"*.{domain}"], None)
        assert not match_certificate(context, [domain], [f"*.{domain}"], None)
        assert not match_certificate(context, [f"a.{label}.{domain}"], [f"*.{domain}"], None)

    @given(CONTEXTS, DOMAINS, DOMAINS)
    def test_a_plain_name_is_the_same_name(
        self, context: CertContext, presented: str, reference: str
    ) -> None:
        matches = match_certificate(context, [reference], [presented.upper()], None)
        assert matches is (presented == reference)

    @given(CONTEXTS, DOMAINS, st.text(max_size=20), st.integers(0, 60))
    def test_nothing_added_to_a_name_leaves_it_matching(
        self, context: CertContext, domain: str, added: str, position: int
    ) -> None:
        at = position % (len(domain) + 1)
        presented = domain[:at] + added + domain[at:]
        if presented.lower() != domain:
            plain = not presented.startswith("*.")
            assert not (plain and match_certificate(context, [domain], [presented], None))

    @given(CONTEXTS, st.lists(st.text(max_size=20)), st.lists(st.text(max_size=20)))
    def test_any_text_is_judged(
        self, context: CertContext, references: list[str], presented: list[str]
    ) -> None:
        match_certificate(context, references, presented, "x")

    @given(st.lists(st.text(max_size=9), min_size=1), DOMAINS)
    def test_the_common_name_never_helps_beside_a_dns_name(
        self, presented: list[str], domain: str
    ) -> None:
        for context in CertContext:
            assert match_certificate(context, [domain], presented, domain) is match_certificate(
                context, [domain], presented, None
            )
