# SPDX-License-Identifier: Apache-2.0
"""What holds for every TLSA RRset and every set of address and TLSA answers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from strictmail.core.dane.act import DnsState, HostAction, decide_host
from strictmail.core.dane.base_domain import Step, TlsaVerdict, candidates, judge_tlsa
from strictmail.core.dane.tlsa import is_usable, parse_tlsa, select_by_agility, usable_records
from strictmail.core.dnsvalues import Answer, RecordType, Status, Tlsa
from strictmail.core.errors import TlsaSyntaxError
from strictmail.core.mxset import TlsaState

octets = st.integers(0, 255)
records = st.builds(
    Tlsa,
    st.one_of(st.sampled_from([2, 3]), octets),
    st.one_of(st.sampled_from([0, 1]), octets),
    st.one_of(st.sampled_from([1, 2]), octets),
    st.one_of(
        st.binary(max_size=70),
        st.binary(min_size=32, max_size=32),
        st.binary(min_size=64, max_size=64),
    ),
)
names = st.sampled_from(["mx.a.test", "mx.b.test"])
addresses = st.builds(
    Answer,
    name=st.just("mx.a.test"),
    rdtype=st.sampled_from([RecordType.A, RecordType.AAAA]),
    status=st.sampled_from(list(Status)),
    secure=st.booleans(),
    records=st.sampled_from([(), ("192.0.2.1",)]),
    canonical_name=names,
)


class TestTlsa:
    @given(st.text())
    def test_text_is_a_record_or_an_error(self, text: str) -> None:
        try:
            record = parse_tlsa(text)
        except TlsaSyntaxError:
            return
        assert parse_tlsa(str(record)) == record

    @given(records)
    def test_presentation_form_comes_back(self, record: Tlsa) -> None:
        assert parse_tlsa(str(record)) == record

    @given(st.lists(records, max_size=6))
    def test_agility_only_removes_and_never_all(self, rrset: list[Tlsa]) -> None:
        usable, chosen = usable_records(rrset), select_by_agility(rrset)
        assert [r for r in usable if r in chosen] == list(chosen)
        assert bool(chosen) == bool(usable)
        assert {(r.usage, r.selector) for r in chosen} == {(r.usage, r.selector) for r in usable}

    @given(st.lists(records, max_size=6), records)
    def test_an_unusable_record_changes_nothing(self, rrset: list[Tlsa], more: Tlsa) -> None:
        if not is_usable(more):
            assert select_by_agility([more, *rrset]) == select_by_agility(rrset)


class TestBaseDomain:
    @given(st.lists(addresses, min_size=1, max_size=2), st.none() | addresses)
    def test_every_plan_ends(self, answers: list[Answer], cname: Answer | None) -> None:
        plan = candidates("mx.a.test", answers, cname)
        assert bool(plan.base_domains) == (plan.step is Step.ASK_TLSA)
        assert (plan.state is TlsaState.NOT_ASKED) == (plan.step is not Step.DONE)
        if cname is not None:
            assert plan.step is not Step.ASK_CNAME

    @given(st.lists(addresses, min_size=1, max_size=2))
    def test_insecure_answers_alone_never_lead_to_tlsa(self, answers: list[Answer]) -> None:
        if not any(a.secure for a in answers):
            assert candidates("mx.a.test", answers).step is not Step.ASK_TLSA

    @given(addresses)
    def test_found_is_always_secure(self, answer: Answer) -> None:
        if judge_tlsa(answer) is TlsaVerdict.FOUND:
            assert answer.secure
            assert answer.records


class TestAct:
    states = st.sampled_from(list(DnsState))

    @given(states, states, states, st.lists(records, max_size=3), st.booleans())
    def test_mandatory_never_uses_an_unauthenticated_host(
        self, mx: DnsState, address: DnsState, tlsa: DnsState, rrset: list[Tlsa], starttls: bool
    ) -> None:
        action = decide_host(mx, address, tlsa, rrset, starttls=starttls, mandatory=True)
        assert action in (HostAction.TLS_DANE, HostAction.SKIP_HOST, HostAction.DELAY)

    @given(states, states, states, st.lists(records, max_size=3))
    def test_an_error_is_never_taken_for_an_absence(
        self, mx: DnsState, address: DnsState, tlsa: DnsState, rrset: list[Tlsa]
    ) -> None:
        action = decide_host(mx, address, tlsa, rrset)
        if DnsState.ERROR in (mx, address):
            assert action in (HostAction.SKIP_HOST, HostAction.DELAY)
        if mx is address is DnsState.SECURE and tlsa is DnsState.ERROR:
            assert action is HostAction.SKIP_HOST
