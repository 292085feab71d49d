# SPDX-License-Identifier: Apache-2.0
"""What one check has found so far: filled in by whoever finds something, readable at any moment.

When the time is over, the sheet becomes `DomainFacts` as it stands: what is missing is unknown,
and what was found is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from strictmail.core.check.facts import (
    DomainFacts,
    HostFacts,
    PortState,
    ProbeFacts,
    ProbeOutcome,
    ProbeTarget,
    Unknown,
    UnknownReason,
)
from strictmail.core.dnsvalues import Answer, RecordType, Status
from strictmail.core.mxset import MxSet, MxStatus, TlsaState
from strictmail.core.names import is_address
from strictmail.core.sts.record import record_name
from strictmail.core.tlsrpt.record import tlsrpt_name
from strictmail.net.addresses import FAMILIES

if TYPE_CHECKING:
    from datetime import datetime

    from strictmail.core.check.facts import AuthorityFacts, PolicyHostLook, RuaFacts
    from strictmail.core.mxset import MxHost
    from strictmail.core.sts.lifecycle import PolicyEntry
    from strictmail.core.sts.values import FetchedPolicy, FetchFailure

LATE: Final = "the time for the check was over"


@dataclass(slots=True)
class HostSheet:
    """One MX host.

    Attributes:
        name: As in the MX record.
        preference: Lower is tried first.
        addresses: The answers that have come, by type.
        sessions: By address, in the order of the answers: what was seen; nothing yet, or what.
        tlsrpt: TXT at `_smtp._tls`.
        idle_tlsa: TLSA where senders do not ask.
    """

    name: str
    preference: int
    addresses: dict[RecordType, Answer] = field(default_factory=dict)
    sessions: dict[str, list[ProbeFacts]] = field(default_factory=dict)
    tlsrpt: Answer | None = None
    idle_tlsa: Answer | None = None

    def facts(self, at: datetime) -> HostFacts:
        """The same as a value; what is missing was not done in time."""
        probes: list[ProbeFacts] = []
        for address, sessions in self.sessions.items():
            probes += sessions or [self._late(address, at)]
        answers = [
            self.addresses.get(family) or _late_answer(self.name, family) for family in FAMILIES
        ]
        return HostFacts(
            self.name,
            self.preference,
            # Nobody asks for the addresses of a name that is one.
            () if is_address(self.name) else tuple(answers),
            tuple(probes),
            self.tlsrpt,
            self.idle_tlsa,
        )

    def _late(self, address: str, at: datetime) -> ProbeFacts:
        target = ProbeTarget(self.name, address, self.name)
        unknown = Unknown(UnknownReason.DEADLINE, LATE)
        return ProbeFacts(
            target, ProbeOutcome.UNKNOWN, at, unknown, detail=unknown.detail, attempts=0
        )


@dataclass(slots=True)
class Sheet:
    """One domain. The members are those of `DomainFacts`; None: not known yet.

    Attributes:
        open: Subjects that somebody is still looking at.
        mx_is_whole: The TLSA records of its hosts have been looked for, or nobody wants them.
    """

    domain: str
    looked_at: datetime
    validates: bool
    allow_networks: tuple[str, ...]
    cached: PolicyEntry | None
    mx_answer: Answer | None = None
    mx: MxSet | None = None
    mx_is_whole: bool = False
    sts_record: Answer | None = None
    tlsrpt_record: Answer | None = None
    hosts: list[HostSheet] = field(default_factory=list)
    policy_addresses: dict[RecordType, Answer] = field(default_factory=dict)
    policy: FetchedPolicy | FetchFailure | None = None
    policy_looks: list[PolicyHostLook] = field(default_factory=list)
    rua: list[RuaFacts] = field(default_factory=list)
    authorities: list[AuthorityFacts] = field(default_factory=list)
    caa: list[Answer] = field(default_factory=list)
    port25: PortState = PortState.NOT_TESTED
    unknown: dict[str, Unknown] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)

    def miss(self, subject: str, unknown: Unknown) -> None:
        """Note what is not looked at; the first reason stays."""
        self.unknown.setdefault(subject, unknown)

    def facts(self, seconds: float) -> DomainFacts:
        """Everything that is known at this moment."""
        for subject in sorted(self.open):
            self.miss(subject, Unknown(UnknownReason.DEADLINE, LATE))
        domain = self.domain
        addresses = self.policy_addresses
        return DomainFacts(
            domain=domain,
            looked_at=self.looked_at,
            validates=self.validates,
            mx_answer=self.mx_answer or _late_answer(domain, RecordType.MX),
            mx=self._mx(),
            sts_record=self.sts_record or _late_answer(record_name(domain), RecordType.TXT),
            tlsrpt_record=self.tlsrpt_record or _late_answer(tlsrpt_name(domain), RecordType.TXT),
            hosts=tuple(host.facts(self.looked_at) for host in self.hosts),
            policy_addresses=tuple(addresses[family] for family in FAMILIES if family in addresses),
            policy=self.policy,
            policy_looks=tuple(
                sorted(self.policy_looks, key=lambda look: (":" in look.address, look.address))
            ),
            rua=tuple(sorted(self.rua, key=lambda rua: rua.uri)),
            authorities=tuple(
                sorted(
                    self.authorities,
                    key=lambda one: (one.zone, one.name, one.rdtype, one.server, one.address),
                )
            ),
            caa=tuple(self.caa),
            cached=self.cached,
            port25=self.port25,
            unknown=tuple(self.unknown.items()),
            seconds=seconds,
            allow_networks=self.allow_networks,
        )

    def _mx(self) -> MxSet:
        if self.mx is None:
            return MxSet(MxStatus.ERROR, detail=LATE)
        if self.mx_is_whole or not self.mx.secure:
            return self.mx
        # Spec-silent: as everywhere, what was not looked up in time counts as a lookup that
        # failed: a sender would be told so by its own resolver.
        return replace(self.mx, hosts=tuple(map(_late_host, self.mx.hosts)))


def _late_host(host: MxHost) -> MxHost:
    return replace(host, tlsa_state=TlsaState.ERROR, detail=LATE)


def _late_answer(name: str, rdtype: RecordType) -> Answer:
    return Answer(name, rdtype, Status.TIMEOUT, detail=LATE)
