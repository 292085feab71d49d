# SPDX-License-Identifier: Apache-2.0
"""Reports by mail straight to the MX hosts of their destination.

Report mail says `TLS-Required: No` (RFC 8689 §3): TLS is tried wherever it is offered, and what
MTA-STS and DANE demand is looked at, but neither a policy nor a certificate holds a report back,
since it may be about just that (RFC 8460 §3). How the session was, the outcome says.

==============================  ===============================================================
what happens                    what is done
==============================  ===============================================================
no STARTTLS, TLS breaks         the message goes in the clear, over a new connection if need be
the certificate is refused      the message goes all the same; "not verified" stands in the detail
TLSA lookup fails               the host is used all the same
5xx to STARTTLS-less MAIL       given up: the server itself wants TLS and does not do it
an inner address                that address is not connected to; nothing left: refused
null MX, no such domain         dead
==============================  ===============================================================
"""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING, Final

from strictmail.core.dane.authenticate import authenticate, reference_ids
from strictmail.core.mxset import MxHost, MxSet, MxStatus, TlsaState
from strictmail.core.nexthop import Nexthop, NexthopKind
from strictmail.core.sts.fetchrules import is_allowed_address, read_networks
from strictmail.core.tlsrequired import TlsWish, read_wish
from strictmail.core.tlsrpt.delivery import OutcomeKind, SendOutcome
from strictmail.discovery.mx import discover_mx
from strictmail.net.addresses import address_texts, look_up_addresses
from strictmail.net.connectto import STRAIGHT, ConnectMap
from strictmail.net.mailer import IDLE_SECONDS
from strictmail.net.smtpclient import SessionEnd, SessionPool, SmtpSession, TlsBroken
from strictmail.net.tls import ClientConnection, Offer, client_context
from strictmail.net.x509 import ChainVerifier

if TYPE_CHECKING:
    from collections.abc import Iterable

    from strictmail.ports import Clock, Resolver

MAX_HOSTS: Final = 5
"""MX hosts tried in one attempt."""

MAX_HOST_ADDRESSES: Final = 2
"""Of one host that are tried in one attempt."""

CONNECT_SECONDS: Final = 20.0

_FINAL: Final = (OutcomeKind.DELIVERED, OutcomeKind.DEAD, OutcomeKind.GIVE_UP)


class DirectMailer:
    """Sends reports to MX hosts; implements `ports.ReportMailer`.

    Args:
        resolver: For MX hosts, addresses and TLSA records.
        clock: The time.
        ehlo_name: What we call ourselves.
        envelope_sender: Where bounces go; "" for nowhere.
        ca_file: Trusted roots in PEM; None for the system's.
        timeout: Seconds for one attempt.
        allow_networks: CIDR networks that MX hosts may live in beside the public ones.
        connect_map: Where connections go instead.

    Raises:
        OSError: The roots cannot be read.
        ValueError: A network is malformed.
    """

    def __init__(
        self,
        resolver: Resolver,
        clock: Clock,
        *,
        ehlo_name: str,
        envelope_sender: str = "",
        ca_file: str | None = None,
        timeout: float = 180.0,
        allow_networks: Iterable[str] = (),
        connect_map: ConnectMap = STRAIGHT,
    ) -> None:
        self._resolver = resolver
        self._clock = clock
        self._ehlo_name = ehlo_name
        self._sender = envelope_sender
        self._timeout = timeout
        self._connect_map = connect_map
        self._networks = read_networks(allow_networks)
        self._verifier = ChainVerifier(ca_file)
        self._pool = SessionPool(IDLE_SECONDS, clock.monotonic)

    async def send(self, address: str, message: bytes) -> SendOutcome:
        """Send a report; see `ports.ReportMailer`.

        Raises:
            ValueError: The message does not say `TLS-Required: No`: it is no report.
        """
        head = message.partition(b"\r\n\r\n")[0].decode("latin-1")
        # RFC 8689 §3: only what says so itself goes without regard to policies (RTLS-20).
        if read_wish(head.replace("\r\n ", " ").split("\r\n")) is not TlsWish.OPTIONAL:
            raise ValueError("only mail that says `TLS-Required: No` is sent this way")
        try:
            async with asyncio.timeout(self._timeout):
                return await self._send(address, message)
        except TimeoutError:
            return _retry(f"not done within {self._timeout:g} s")

    async def _send(self, address: str, message: bytes) -> SendOutcome:
        domain = address.rpartition("@")[2].lower()
        kept = self._pool.take(domain)
        if kept is not None:
            before = kept.messages
            try:
                return await self._use(kept, domain, address, message)
            except SessionEnd as end:
                if kept.messages != before:
                    return end.outcome
        mx = await discover_mx(self._resolver, Nexthop(NexthopKind.DOMAIN, domain), want_tlsa=True)
        if mx.status in (MxStatus.NULL, MxStatus.NXDOMAIN):
            # RFC 7505 §3: nobody takes mail there.
            return SendOutcome(OutcomeKind.DEAD, f"{domain} takes no mail ({mx.status.value})")
        if not mx.hosts:
            return _retry(f"the MX lookup of {domain} failed: {mx.detail}")
        outcomes = []
        for host in mx.hosts[:MAX_HOSTS]:
            answers = await look_up_addresses(self._resolver, host.name)
            for place in address_texts(answers)[:MAX_HOST_ADDRESSES]:
                outcome = await self._try_host(mx, host, place, domain, address, message)
                if outcome.kind in _FINAL:
                    return outcome
                outcomes.append(outcome)
        # What could be tried again counts more than what was refused.
        tried = [outcome for outcome in outcomes if outcome.kind is OutcomeKind.RETRY]
        return [*tried, *outcomes, _retry(f"no MX host of {domain} has an address")][0]

    async def _try_host(
        self, mx: MxSet, host: MxHost, place: str, domain: str, address: str, message: bytes
    ) -> SendOutcome:
        """One address of one host: with TLS, and if that cannot be had, without."""
        # BCP: a record must not make us talk to our own neighbours (RPT-DLV-57, SEC-19).
        if not is_allowed_address(place, self._networks):
            what = f"{host.name} has the address {place}, which is not a public one"
            return SendOutcome(OutcomeKind.REFUSED, what)
        broken = ""
        for want_tls in (True, False):
            try:
                session = await self._open(host, place, want_tls=want_tls)
                quality = self._quality(mx, host, domain, session)
                outcome = await self._use(session, domain, address, message)
            except TlsBroken as error:
                # RFC 8460 §3, §5.3; RFC 8689 §4.2.2: broken TLS does not stop a report
                # (RPT-DLV-34, RTLS-20).
                broken = str(error)
                continue
            except SessionEnd as end:
                if end.tls_needed and not want_tls:
                    # RFC 8689 §4.2.2: the server wants TLS, and it cannot be had (RTLS-21).
                    detail = f"{end.outcome.detail}; {broken}"
                    return SendOutcome(OutcomeKind.GIVE_UP, detail)
                return end.outcome
            detail = f"{host.name} [{place}]: {outcome.detail} ({broken or quality})"
            return SendOutcome(outcome.kind, detail, outcome.retry_after_seconds)
        return _retry(f"{host.name}: {broken}")

    async def _use(
        self, session: SmtpSession, domain: str, address: str, message: bytes
    ) -> SendOutcome:
        try:
            outcome = await session.send(self._sender, address, message)
        except BaseException:
            session.close()
            raise
        self._pool.give(domain, session)
        return outcome

    async def _open(self, host: MxHost, place: str, *, want_tls: bool) -> SmtpSession:
        where = self._connect_map.target(host.name, place, 25)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                connection = await ClientConnection.open(*where)
        except OSError as error:  # TimeoutError too
            what = errno.errorcode.get(error.errno or 0, "no connection in time")
            raise SessionEnd(_retry(f"{host.name} [{place}]: {what}")) from error
        session = SmtpSession(connection, host.name, ehlo_name=self._ehlo_name)
        try:
            await session.open()
            if want_tls and "STARTTLS" in session.offers:
                name = host.tlsa_base_domain or host.name
                await session.start_tls(client_context(Offer.ORDINARY), name)
        except BaseException:
            session.close()
            raise
        return session

    def _quality(self, mx: MxSet, host: MxHost, domain: str, session: SmtpSession) -> str:
        """How a session was protected, in words."""
        if session.tls is None:
            return "in the clear"
        chain = session.tls.chain_der
        now = self._clock.now()
        if host.tlsa_state is TlsaState.USABLE:
            names = reference_ids(
                base_domain=host.tlsa_base_domain,
                nexthop=domain,
                nexthop_expanded=mx.expanded,
                mx_host=host.name if mx.status is MxStatus.FOUND else None,
                mx_secure=mx.secure,
            )
            if authenticate(host.tlsa, chain, names, now).is_authenticated:
                return f"{session.tls.version}, verified by DANE"
        pkix = self._verifier.verify(chain, host.name, now)
        verified = "verified" if not pkix.problems else "not verified"
        return f"{session.tls.version}, {verified}"

    async def close(self) -> None:
        """Say goodbye."""
        await self._pool.close()


def _retry(detail: str) -> SendOutcome:
    return SendOutcome(OutcomeKind.RETRY, detail)
