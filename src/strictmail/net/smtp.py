# SPDX-License-Identifier: Apache-2.0
"""A session with one address of an MX host, as far as a sending MTA would go before MAIL.

Greeting, EHLO, STARTTLS, handshake, EHLO again, QUIT: no mail is sent and no mailbox named. What
the host does is told as `ProbeFacts`; only what proves that a sender fails there is called a
failure, everything else is unknown, with its reason:

==================================  ===========================================================
what happens                        outcome
==================================  ===========================================================
no connection: refused, reset       UNKNOWN, REFUSED
no connection: no way there         UNKNOWN, NO_ROUTE; a local packet filter: PORT_BLOCKED; out
                                    of sockets: LIMIT
no connection in time               UNKNOWN, TIMEOUT
no greeting in time                 UNKNOWN, TARPIT
4xx to connect, EHLO or HELO; 421   UNKNOWN, BUSY
to anything
5xx to connect; to EHLO and HELO    UNKNOWN, REJECTED
no SMTP                             UNKNOWN, REJECTED
silence, or the end, later          UNKNOWN, TIMEOUT or REFUSED
250 to EHLO, and no STARTTLS; 5xx   NO_STARTTLS
to EHLO and 250 to HELO
4xx to STARTTLS                     STARTTLS_TEMPORARY; UNKNOWN, BUSY if it speaks of too many,
                                    a rate, a limit or later
5xx to STARTTLS                     STARTTLS_REFUSED
octets behind the 220 to STARTTLS,  INJECTED: the session is dropped, nothing of it is read as
before our hello                    a reply
an alert; octets that are no TLS;   TLS_FAILED, after a second connection that also offers TLS
TLS that OpenSSL cannot go on with  1.0 and 1.1 broke as well; TLS_OUTDATED when it got such a
                                    version; TLS when it got a newer one
a 4xx reply instead of TLS          UNKNOWN, BUSY
the connection ends in the          the second connection as above, since some servers hang up
handshake                           where others send an alert; else UNKNOWN, REFUSED
no end of the handshake in time     UNKNOWN, TIMEOUT
no proper reply to EHLO in TLS      UNKNOWN as above, and `tls` is set; an alert there is
                                    TLS_FAILED, since TLS 1.3 servers judge that late
==================================  ===========================================================

When only one kind of certificate is offered, a refused handshake says that the host has none of
that kind: TLS_FAILED without a second connection. A host that refuses TLS 1.2 as such (it speaks
1.3 only, where the kind cannot be chosen) leaves it unknown: UNKNOWN, LIMIT.

Choices: octets that are injected after our hello cannot be told from a broken server; they break
the handshake, for us and for every sender. EHLO refused with any 5xx is followed by HELO, as
Postfix does. A 421 to STARTTLS is a busy host, not a refusal.

Every wait has a limit (`ProbeLimits`), every read a bound (`core.smtpreply`, `net.tls`). One
connection is in `net.smtpdialogue`; here, what one or two of them make of the host.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from strictmail.core.check.facts import (
    KeyType,
    ProbeFacts,
    ProbeOutcome,
    TlsFacts,
    UnknownReason,
)
from strictmail.net.connectto import STRAIGHT
from strictmail.net.smtpdialogue import DEFAULT_LIMITS, Dialogue, DialogueEnd, ProbeLimits, Seen
from strictmail.net.tls import Offer, TlsSession, leaf_key_type, offer_for
from strictmail.net.x509 import ChainVerifier

if TYPE_CHECKING:
    from strictmail.core.check.facts import ProbeTarget
    from strictmail.net.connectto import ConnectMap
    from strictmail.ports import Clock

__all__ = ["ProbeLimits", "SmtpTlsProber"]

MAX_EHLO_NAME_CHARACTERS: Final = 255
"""RFC 5321 §4.5.3."""

_OLD_VERSIONS: Final = frozenset({"TLSv1", "TLSv1.1"})


class SmtpTlsProber:
    """Probes MX hosts; implements `ports.SmtpProber`.

    Args:
        clock: Time.
        ehlo_name: What to say in EHLO: this machine's name, or an address literal.
        ca_file: Trusted roots in PEM; None for the system's.
        limits: How long to wait.
        connect_map: Where connections go instead.

    Raises:
        OSError: The roots cannot be read.
        ValueError: The name cannot be said in EHLO.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        ehlo_name: str,
        ca_file: str | None = None,
        limits: ProbeLimits = DEFAULT_LIMITS,
        connect_map: ConnectMap = STRAIGHT,
    ) -> None:
        is_word = ehlo_name.isascii() and ehlo_name.isprintable() and " " not in ehlo_name
        if not ehlo_name or not is_word or len(ehlo_name) > MAX_EHLO_NAME_CHARACTERS:
            raise ValueError("the EHLO name is a host name or an address literal, in ASCII")
        self._clock = clock
        self._ehlo_name = ehlo_name
        self._limits = limits
        self._connect_map = connect_map
        self._verifier = ChainVerifier(ca_file)

    async def probe(self, target: ProbeTarget) -> ProbeFacts:
        """Connect, EHLO, STARTTLS, EHLO again, QUIT; see `ports.SmtpProber`."""
        at, begin = self._clock.now(), self._clock.monotonic()
        deadline = asyncio.get_running_loop().time() + self._limits.whole
        offer = offer_for(target.key_type)
        seen = await self._converse(target, offer, deadline)
        attempts = 1
        if seen.is_version_open and offer is Offer.ORDINARY:
            attempts = 2
            seen = _combine(seen, await self._converse(target, Offer.LEGACY, deadline))
        return ProbeFacts(
            target=target,
            outcome=seen.outcome,
            at=at,
            unknown=seen.unknown,
            tls=self._tls_facts(target, seen.tls),
            helo=seen.helo,
            reply=seen.reply,
            detail=seen.detail,
            starttls_inside=seen.starttls_inside,
            seconds=self._clock.monotonic() - begin,
            attempts=attempts,
        )

    async def _converse(self, target: ProbeTarget, offer: Offer, deadline: float) -> Seen:
        """One connection, from its beginning to its end."""
        address, port = self._connect_map.target(target.host, target.address, target.port)
        dialogue = Dialogue(self._ehlo_name, self._limits)
        try:
            try:
                async with asyncio.timeout_at(deadline):
                    seen = await dialogue.run(address, port, offer, target.server_name)
            except DialogueEnd as end:
                seen = end.seen
            except TimeoutError:
                what = f"not done within {self._limits.whole:g} s, {dialogue.stage}"
                seen = dialogue.unknown(UnknownReason.TIMEOUT, what)
            except OSError as error:
                seen = dialogue.lost(error)
            await dialogue.quit()
        finally:
            dialogue.close()
        return seen

    def _tls_facts(self, target: ProbeTarget, session: TlsSession | None) -> TlsFacts | None:
        if session is None:
            return None
        leaf = session.chain_der[:1]
        reference_id = target.reference_id or target.host
        return TlsFacts(
            version=session.version,
            cipher=session.cipher,
            server_name=target.server_name,
            asked_key_type=target.key_type,
            key_type=leaf_key_type(leaf[0]) if leaf else KeyType.OTHER,
            chain_der=session.chain_der,
            pkix=self._verifier.verify(session.chain_der, reference_id, self._clock.now()),
        )


def _combine(first: Seen, second: Seen) -> Seen:
    """What two connections show: the ordinary one, which broke, and one with old versions too."""
    if second.tls is not None:
        detail = f"with TLS 1.2 and 1.3 alone: {first.detail}"
        if second.tls.version in _OLD_VERSIONS:
            return replace(
                second, outcome=ProbeOutcome.TLS_OUTDATED, unknown=None, reply="", detail=detail
            )
        # It can do it after all: then the first failure was a passing one.
        return replace(second, detail=f"{detail}; {second.detail}".rstrip("; "))
    if first.outcome is ProbeOutcome.UNKNOWN and second.outcome is ProbeOutcome.TLS_FAILED:
        return second
    return first
