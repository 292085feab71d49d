# SPDX-License-Identifier: Apache-2.0
"""An ideal sender: it learns, decides and delivers as the standards want, and says how that went.

Learning and deciding are strictmail's own parts, so what it finds out is held against the zoo's
table twice: the decision, and what the hosts of the lab then do. SMTP and TLS are its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from strictmail.core.dane.authenticate import authenticate, reference_ids
from strictmail.core.decision import (
    Decision,
    DecisionSettings,
    Level,
    ListenerProfile,
    PolicyInfo,
    decide,
)
from strictmail.core.dnsvalues import RecordType, Status
from strictmail.core.mxset import MxHost, MxSet, MxStatus, TlsaState
from strictmail.core.nexthop import parse_nexthop
from strictmail.core.sts.values import FetchedPolicy, FetchFailure
from strictmail.discovery.mx import discover_mx
from strictmail.discovery.policy import RecordStatus, look_up_record
from strictmail.lab.entries import Delivery, MxFault, PolicyFault
from strictmail.net.dns import DnsResolver
from strictmail.net.https import HttpsPolicyFetcher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from strictmail.lab.net import Lab
    from strictmail.lab.zoo import ZooEntry

PATIENCE = 60.0
"""Deadline for what comes: reached only by a fault of the lab or the sender."""

IMPATIENCE = 0.2
"""Deadline for what is known never to come."""

NEVER = {PolicyFault.SLOW, PolicyFault.STALL}


class Learnt(NamedTuple):
    decision: Decision
    failure: FetchFailure | None


class Sent(NamedTuple):
    delivery: Delivery
    host: str | None


class SessionFailedError(Exception):
    """This host is not used: the next one."""


class RejectedError(Exception):
    """The recipient is refused for good."""


class TlsFailedError(Exception):
    """No TLS: opportunistic senders go on without."""


@dataclass
class Sender:
    """One sending machine."""

    lab: Lab
    resolver: DnsResolver

    async def learn(self, entry: ZooEntry, *, dane: bool) -> Learnt:
        """What strictmail would answer, with nothing cached before."""
        record = await look_up_record(self.resolver, entry.domain)
        fetched: FetchedPolicy | FetchFailure | None = None
        if record.status is RecordStatus.FOUND:
            fetched = await self._fetch(entry)
        policy = None
        if isinstance(fetched, FetchedPolicy):
            assert record.record is not None
            now = datetime.now(UTC)
            found = fetched.policy
            policy = PolicyInfo(
                record.record.policy_id,
                found.mode,
                found.max_age,
                found.mx_patterns,
                found.policy_strings,
                now,
                now,
                source="fetch",
            )
        failure = fetched if isinstance(fetched, FetchFailure) else None
        mx = await discover_mx(self.resolver, parse_nexthop(entry.domain), want_tlsa=dane)
        decision = decide(
            entry.domain,
            profile=ListenerProfile(Level.MAY, dane=dane),
            settings=DecisionSettings(),
            policy=policy,
            mx=mx,
            failure=failure,
            record_failed=record.status is RecordStatus.FAILED,
        )
        return Learnt(decision, failure)

    async def _fetch(self, entry: ZooEntry) -> FetchedPolicy | FetchFailure:
        never = entry.policy is not None and entry.policy.fault in NEVER
        fetcher = HttpsPolicyFetcher(
            self.resolver,
            ca_file=self.lab.ca_file,
            timeout=IMPATIENCE if never else PATIENCE,
            allow_networks=["127.0.0.0/8"],
            connect_port=self.lab.https_port,
        )
        return await fetcher.fetch(entry.domain)

    async def send(self, entry: ZooEntry, decision: Decision) -> Sent:
        """Deliver a message as a decision wants it."""
        mx = decision.mx
        assert mx is not None
        if mx.status in (MxStatus.NULL, MxStatus.NXDOMAIN):
            return Sent(Delivery.BOUNCED, None)
        if decision.level is Level.DEFER or mx.status is MxStatus.ERROR:
            return Sent(Delivery.DEFERRED, None)
        for host in mx.hosts:
            try:
                return Sent(await self._send_to(entry, decision, mx, host), host.name)
            except RejectedError:
                return Sent(Delivery.BOUNCED, None)
            except SessionFailedError:
                continue
        return Sent(Delivery.DEFERRED, None)

    async def _send_to(
        self, entry: ZooEntry, decision: Decision, mx: MxSet, host: MxHost
    ) -> Delivery:
        answer = await self.resolver.lookup(host.name, RecordType.A)
        if answer.status is not Status.OK:
            raise SessionFailedError
        address = str(answer.records[0])
        patience = next((IMPATIENCE for h in entry.mx if h.fault is MxFault.TARPIT), PATIENCE)
        deliver = Attempt(address, self.lab.smtp_port, f"ideal@{entry.domain}", host.name, patience)
        if decision.level is Level.SECURE:
            if host.name not in decision.allowed_mx:
                raise SessionFailedError
            return await deliver.over_web_pki(self.lab.ca_file)
        if decision.level in (Level.DANE, Level.DANE_ONLY):
            if host.tlsa_state in (TlsaState.ERROR, TlsaState.NO_ADDRESS):
                raise SessionFailedError
            if host.tlsa_state is TlsaState.USABLE:
                return await deliver.over_dane(entry.domain, mx, host)
            if decision.level is Level.DANE_ONLY:
                raise SessionFailedError
            if host.tlsa_state is TlsaState.UNUSABLE:
                return await deliver.over_any_tls()
        return await deliver.opportunistically()


def anybody(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2) -> ssl.SSLContext:
    """A context that checks nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = version
    return context


def strict(ca_file: str) -> ssl.SSLContext:
    """A context that checks as RFC 8461 §4.2 wants it."""
    context = ssl.create_default_context(cafile=ca_file)
    context.hostname_checks_common_name = False
    return context


@dataclass
class Attempt:
    """One delivery to one address."""

    address: str
    port: int
    recipient: str
    server_name: str
    patience: float = PATIENCE

    async def over_web_pki(self, ca_file: str) -> Delivery:
        async with self._session() as smtp:
            await smtp.start_tls(strict(ca_file), self.server_name)
            await smtp.deliver(self.recipient)
        return Delivery.VERIFIED

    async def over_dane(self, domain: str, mx: MxSet, host: MxHost) -> Delivery:
        names = reference_ids(
            base_domain=host.tlsa_base_domain,
            nexthop=domain,
            nexthop_expanded=mx.expanded,
            mx_host=host.name if mx.status is MxStatus.FOUND else None,
            mx_secure=mx.secure,
        )
        async with self._session() as smtp:
            chain = await smtp.start_tls(anybody(), host.tlsa_base_domain)
            if not authenticate(host.tlsa, chain, names, datetime.now(UTC)).is_authenticated:
                raise SessionFailedError
            await smtp.deliver(self.recipient)
        return Delivery.VERIFIED

    async def over_any_tls(self) -> Delivery:
        async with self._session() as smtp:
            await smtp.start_tls(anybody(), self.server_name)
            await smtp.deliver(self.recipient)
        return Delivery.ENCRYPTED

    async def opportunistically(self) -> Delivery:
        try:
            async with self._session() as smtp:
                await smtp.start_tls(anybody(), self.server_name)
                await smtp.deliver(self.recipient)
                return Delivery.ENCRYPTED
        except TlsFailedError:
            pass
        async with self._session() as smtp:
            await smtp.deliver(self.recipient)
            return Delivery.PLAINTEXT

    @contextlib.asynccontextmanager
    async def _session(self) -> AsyncIterator[SmtpClient]:
        client = SmtpClient()
        try:
            async with asyncio.timeout(self.patience):
                await client.connect(self.address, self.port)
                await client.greet()
                yield client
        except TlsFailedError as error:
            raise _TlsAndSessionError from error
        except (TimeoutError, OSError, EOFError) as error:
            raise SessionFailedError from error
        finally:
            client.close()


class _TlsAndSessionError(TlsFailedError, SessionFailedError):
    """A failed TLS is a failed session to all but opportunistic senders."""


class SmtpClient:
    """As much of an SMTP client as it takes, with every reply in `replies`."""

    def __init__(self) -> None:
        self.replies: list[str] = []
        self.capabilities: set[str] = set()
        self._plain: asyncio.StreamReader
        self._writer: asyncio.StreamWriter | None = None
        self._tls: ssl.SSLObject | None = None
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._buffer = b""

    async def connect(self, address: str, port: int) -> None:
        self._plain, self._writer = await asyncio.open_connection(address, port)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    async def _read(self) -> bytes:
        if self._tls is None:
            return await self._plain.read(65536)
        tls = self._tls
        data: bytes = await self._pump(lambda: tls.read(65536))
        return data

    async def _pump(self, step: Any) -> Any:
        assert self._writer is not None
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self._writer.write(self._out.read())
                await self._writer.drain()
                data = await self._plain.read(65536)
                if not data:
                    raise EOFError from None
                self._in.write(data)
            finally:
                self._writer.write(self._out.read())

    async def _write(self, data: bytes) -> None:
        assert self._writer is not None
        if self._tls is not None:
            self._tls.write(data)
            data = self._out.read()
        self._writer.write(data)
        await self._writer.drain()

    async def reply(self) -> str:
        """Read a whole reply; all lines joined with LF."""
        lines: list[str] = []
        while not lines or lines[-1][3:4] == "-":
            while b"\n" not in self._buffer:
                data = await self._read()
                if not data:
                    raise EOFError
                self._buffer += data
            line, _, self._buffer = self._buffer.partition(b"\n")
            lines.append(line.decode().rstrip("\r"))
        self.replies.append("\n".join(lines))
        return self.replies[-1]

    async def command(self, text: str) -> str:
        await self._write(f"{text}\r\n".encode())
        return await self.reply()

    async def greet(self) -> None:
        greeting = await self.reply()
        if not greeting.startswith("220"):
            raise SessionFailedError
        await self.say_hello()

    async def say_hello(self) -> None:
        reply = await self.command("EHLO sender.test")
        self.capabilities = set()
        if reply.startswith("250"):
            self.capabilities = {line[4:].split()[0] for line in reply.splitlines()[1:]}
        else:
            await self.command("HELO sender.test")

    async def start_tls(self, context: ssl.SSLContext, server_name: str) -> list[bytes]:
        """Turn to TLS and begin anew; returns the presented chain.

        What came in the clear behind the 220 is discarded (RFC 3207 §4.2).
        """
        if "STARTTLS" not in self.capabilities:
            raise TlsFailedError
        if not (await self.command("STARTTLS")).startswith("220"):
            raise TlsFailedError
        self._buffer = b""
        tls = context.wrap_bio(self._in, self._out, server_hostname=server_name)
        try:
            await self._pump(tls.do_handshake)
        except (ssl.SSLError, EOFError) as error:
            raise TlsFailedError from error
        self._tls = tls
        chain = [c.public_bytes(_DER) for c in tls._sslobj.get_unverified_chain()]  # type: ignore[attr-defined]
        await self.say_hello()
        return chain

    async def deliver(self, recipient: str) -> None:
        for line in ("MAIL FROM:<>", f"RCPT TO:<{recipient}>", "DATA"):
            reply = await self.command(line)
            if reply.startswith("5"):
                raise RejectedError(reply)
            if not reply.startswith(("250", "354")):
                raise SessionFailedError(reply)
        if not (await self.command("Subject: test\r\n\r\ntest\r\n.")).startswith("250"):
            raise SessionFailedError
        await self.command("QUIT")


_DER = __import__("_ssl").ENCODING_DER


@contextlib.asynccontextmanager
async def open_sender(lab: Lab) -> AsyncIterator[Sender]:
    """A sender with the lab's resolver."""
    resolver = DnsResolver(
        [lab.dns_address], timeout=PATIENCE, attempts=1, trust_ad=True, rng=random.Random(1)
    )
    await resolver.start()
    try:
        yield Sender(lab, resolver)
    finally:
        await resolver.close()
