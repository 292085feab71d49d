# SPDX-License-Identifier: Apache-2.0
"""What rides on one MX host: who looks at how it does TLS, and what its sessions are.

A fault of a host weighs as much as what it does to mail: under an enforced policy, or behind TLSA
records, mail waits; under a policy in testing it is reported; elsewhere senders do not look.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from strictmail.core.check.result import Severity
from strictmail.core.explain import printable
from strictmail.core.mxset import MxHost, TlsaState
from strictmail.core.sts.lifecycle import is_expired
from strictmail.core.sts.match import match_any
from strictmail.core.sts.values import FetchedPolicy, Mode

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from strictmail.core.check.facts import DomainFacts, HostFacts, ProbeFacts
    from strictmail.core.sts.values import StsPolicy

_DEMANDS_TLS = frozenset({TlsaState.USABLE, TlsaState.UNUSABLE})


@dataclass(frozen=True, slots=True)
class Stakes:
    """Who looks at one host.

    Attributes:
        mode: ENFORCE or TESTING, of a policy that allows the host; None without one.
        dane: It has secure TLSA records behind a secure MX RRset: TLS is required.
    """

    mode: Mode | None
    dane: bool

    @property
    def without_tls(self) -> Severity:
        """How much it matters that TLS cannot be had."""
        if self.mode is Mode.ENFORCE or self.dane:
            return Severity.CRITICAL
        return Severity.WARNING

    @property
    def without_pkix(self) -> Severity:
        """How much it matters that the certificate is not valid in the web PKI."""
        if self.mode is Mode.ENFORCE:
            return Severity.CRITICAL
        return Severity.WARNING if self.mode is Mode.TESTING else Severity.INFO

    @property
    def consequence(self) -> str:
        """A sentence on what a lack of TLS does to mail."""
        if self.mode is Mode.ENFORCE or self.dane:
            who = " and ".join(
                word
                for word, holds in (("MTA-STS", self.mode is Mode.ENFORCE), ("DANE", self.dane))
                if holds
            )
            return f"Senders with {who} do not deliver here: their mail waits."
        if self.mode is Mode.TESTING:
            return "The policy is in testing: mail is delivered and the failure is reported."
        return "Mail travels unprotected."


def policy_in_force(facts: DomainFacts) -> StsPolicy | None:
    """The policy that a sender would apply: as fetched, else one still cached."""
    if isinstance(facts.policy, FetchedPolicy):
        return facts.policy.policy
    # RFC 8461 §3.3: a cached policy outlives a fetch that fails (STS-FET-29).
    if facts.cached is not None and not is_expired(facts.cached, facts.looked_at):
        return facts.cached.policy
    return None


def stakes_of(facts: DomainFacts, host: MxHost) -> Stakes:
    """Who looks at this host."""
    policy = policy_in_force(facts)
    mode = None
    if policy is not None and policy.mode is not Mode.NONE:
        mode = policy.mode if match_any(host.name, policy.mx_patterns) else None
    dane = facts.mx.secure and host.tlsa_state in _DEMANDS_TLS
    return Stakes(mode, dane)


def pair(facts: DomainFacts) -> list[tuple[MxHost, HostFacts]]:
    """The hosts that were looked at: what DNS says of each, and what was seen."""
    by_name = {host.name: host for host in facts.mx.hosts}
    return [
        (by_name.get(host.name) or MxHost(host.name, host.preference), host) for host in facts.hosts
    ]


def first_sessions(host: HostFacts) -> list[ProbeFacts]:
    """The first session with each address: MX name as SNI, any key type.

    The others ask for a key type that the host need not have: no fault shows in them.
    """
    first: dict[str, ProbeFacts] = {}
    for probe in host.probes:
        first.setdefault(probe.target.address, probe)
    return list(first.values())


def subject(host: HostFacts, addresses: Collection[str]) -> str:
    """The host, or `host[address]` where only some of its addresses are meant."""
    name = printable(host.name)
    everywhere = {probe.target.address for probe in host.probes}
    if everywhere <= set(addresses):
        return name
    return f"{name}[{','.join(addresses)}]"


def addresses_of(probes: Iterable[ProbeFacts]) -> tuple[str, ...]:
    """Their addresses, each once, in order."""
    return tuple(dict.fromkeys(probe.target.address for probe in probes))
