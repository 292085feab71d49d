# SPDX-License-Identifier: Apache-2.0
"""A presented chain before the TLSA records of its host: the question that several rules ask.

The records are those of the MX set (`facts.mx`), the names those of RFC 7672 §3.2.2, the instant
is that of the look: the answer is the same wherever it is asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from strictmail.core.dane.authenticate import DaneResult, authenticate, reference_ids
from strictmail.core.mxset import MxStatus

if TYPE_CHECKING:
    from strictmail.core.check.facts import DomainFacts, TlsFacts
    from strictmail.core.mxset import MxHost


def dane_reference_ids(facts: DomainFacts, host: MxHost) -> tuple[str, ...]:
    """The names that a DANE-TA leaf of this host may hold.

    Spec: RFC 7672 §3.2.2.
    """
    return reference_ids(
        base_domain=host.tlsa_base_domain,
        nexthop=facts.domain,
        nexthop_expanded=facts.mx.expanded,
        mx_host=None if facts.mx.status is MxStatus.IMPLICIT else host.name,
        mx_secure=facts.mx.secure,
    )


def judge_chain(facts: DomainFacts, host: MxHost, tls: TlsFacts) -> DaneResult | None:
    """What the TLSA records make of a session; None where the host has no secure ones.

    Args:
        facts: Of the domain.
        host: One of `facts.mx.hosts`, with its records.
        tls: A session with one of its addresses.
    """
    if not host.tlsa_base_domain:
        return None
    ids = dane_reference_ids(facts, host)
    return authenticate(host.tlsa, tls.chain_der, ids, facts.looked_at)
