# SPDX-License-Identifier: Apache-2.0
"""The policy host of a domain, one address at a time: what it serves, and which chain it shows.

The fetch is a sender's own (`strictmail.net.https`), confined to one address. A chain that passes
there is taken from that session. One that does not is got by a second connection that verifies
nothing, so that a finding can show it; nothing is ever requested over that one.

Connections to one address: one, or two where the certificate is refused. The caller decides how
many addresses are looked at, and at how many at once.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from strictmail.core.check.facts import KeyType, PolicyHostLook, TlsFacts
from strictmail.core.sts.fetchrules import policy_host
from strictmail.core.sts.values import FetchedPolicy, FetchFailure
from strictmail.core.tlsrpt.results import ResultType
from strictmail.net.tls import (
    ClientConnection,
    Offer,
    TlsSession,
    client_context,
    leaf_key_type,
    presented_chain,
)

if TYPE_CHECKING:
    import ssl

    from strictmail.net.https import HttpsPolicyFetcher
    from strictmail.net.x509 import ChainVerifier
    from strictmail.ports import Clock

BROWSER_AGENT: Final = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0 (strictmail check)"
)
"""What a firewall takes for a browser. It names us at its end: nobody is deceived who reads it."""

LOOK_SECONDS: Final = 10.0
"""For a connection that only wants to see certificates: TCP and TLS."""


class HttpsPolicyHostProber:
    """Looks at policy hosts; implements `ports.PolicyHostProber`.

    Args:
        fetcher: Its roots, time-out, allowed networks and connect map hold here, too.
        verifier: Judges chains; with the same roots.
        clock: For the moment a chain is judged at, and for durations.
    """

    def __init__(self, fetcher: HttpsPolicyFetcher, verifier: ChainVerifier, clock: Clock) -> None:
        self._fetcher = fetcher
        self._verifier = verifier
        self._clock = clock

    async def look(self, policy_domain: str, address: str, agent: str = "") -> PolicyHostLook:
        """Look at one address; see `ports.PolicyHostProber`."""
        began = self._clock.monotonic()
        sessions: list[TlsSession] = []
        result = await self._fetcher.fetch_from(
            policy_domain, address, agent, lambda tls: sessions.append(_session(tls))
        )
        seconds = self._clock.monotonic() - began
        host = policy_host(policy_domain)
        if not sessions and _is_refused_certificate(result):
            sessions += await self._look_at_chain(host, address)
        tls = self._judge(host, sessions[0]) if sessions else None
        return PolicyHostLook(address, result, tls, agent, seconds)

    async def _look_at_chain(self, host: str, address: str) -> list[TlsSession]:
        """The chain that an address shows, whatever it is worth; at most one."""
        target = self._fetcher.connect_map.target(host, address, self._fetcher.connect_port)
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                connection = await ClientConnection.open(*target)
                try:
                    session = await connection.start_tls(client_context(Offer.ORDINARY), host)
                finally:
                    connection.close()
        except OSError:  # TimeoutError too
            return []
        return [session] if isinstance(session, TlsSession) else []

    def _judge(self, host: str, session: TlsSession) -> TlsFacts:
        chain = session.chain_der
        return TlsFacts(
            version=session.version,
            cipher=session.cipher,
            server_name=host,
            asked_key_type=KeyType.ANY,
            key_type=leaf_key_type(chain[0]) if chain else KeyType.OTHER,
            chain_der=chain,
            pkix=self._verifier.verify(chain, host, self._clock.now()),
        )


def _session(tls: ssl.SSLSocket) -> TlsSession:
    cipher = tls.cipher()
    return TlsSession(tls.version() or "", cipher[0] if cipher else "", presented_chain(tls))


def _is_refused_certificate(result: FetchedPolicy | FetchFailure) -> bool:
    return isinstance(result, FetchFailure) and result.result_type is ResultType.STS_WEBPKI_INVALID
