# SPDX-License-Identifier: Apache-2.0
"""The lab: a small internet on loopback, alive while a block runs.

Every MX host and policy host has an address of its own in 127.0.0.0/8 and listens on the port of
its kind. Knobs change what they do while they run; counters and lists say what they saw.
"""

from __future__ import annotations

import asyncio
import errno
import json
import shutil
import tempfile
from contextlib import AsyncExitStack
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from strictmail.core.names import fold
from strictmail.lab.ca import CertificateAuthority, Credentials
from strictmail.lab.dnsdata import add_entry, base_data, txt_data
from strictmail.lab.dnsserver import DnsFault, DnsServer
from strictmail.lab.entries import CertFault, MxFault, PolicyFault
from strictmail.lab.mxhost import MxHostServer, ReceivedMessage, SeenRecipient
from strictmail.lab.policyhost import PolicyHostServer, PolicyRequest
from strictmail.lab.tlsa import make_tlsa
from strictmail.lab.zoo import ZOO
from strictmail.runtime.clock import SystemClock

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from strictmail.core.dnsvalues import Tlsa
    from strictmail.lab.dnsdata import DnsData
    from strictmail.lab.entries import MxHost, ZooEntry
    from strictmail.lab.host import FaultyHost
    from strictmail.ports import Clock

__all__ = [
    "CertFault",
    "DnsFault",
    "Lab",
    "LabPorts",
    "MxFault",
    "PolicyFault",
    "PolicyRequest",
    "ReceivedMessage",
    "SeenRecipient",
]

T = TypeVar("T")

DNS_HOST: Final = "127.0.0.1"
MX_NETWORK: Final = "127.87"
POLICY_NETWORK: Final = "127.88"
HOSTS_PER_BLOCK: Final = 250
PORT_ATTEMPTS: Final = 20
MESSAGES_FILE: Final = "messages.jsonl"


@dataclass(frozen=True, slots=True)
class LabPorts:
    """The ports of the lab; 0 is any free one, the same for all hosts of a kind."""

    dns: int = 0
    https: int = 0
    smtp: int = 0


class Lab:
    """A small internet with every fault of the zoo.

    Use it as an asynchronous context manager; what is started ends with the block.

    Attributes:
        entries: Its inhabitants.
        data: What its DNS holds; see the knobs for changing it.
        addresses: Host name -> address, of MX and policy hosts.
        messages: What MX hosts took, in order.
        recipients: Every recipient that was named to an MX host.
        requests: What policy hosts were asked for, in order.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        ports: LabPorts = LabPorts(),
        zoo: Sequence[ZooEntry] = ZOO,
        *,
        directory: str | Path | None = None,
        dns: bool = True,
        slow_seconds: float = 1.0,
        on_message: Callable[[ReceivedMessage], None] | None = None,
    ) -> None:
        """Describe a lab; nothing runs yet.

        Args:
            clock: For the time stamps of what is received. Certificates go by the machine's.
            ports: Where to listen.
            zoo: Its inhabitants.
            directory: For its files, which then stay; without, a temporary one.
            dns: Whether its own DNS server runs.
            slow_seconds: Seconds between two octets of a slow policy host.
            on_message: Told of each message that an MX host took.
        """
        self.entries = tuple(zoo)
        self.data: DnsData = base_data()
        self.addresses: dict[str, str] = {}
        self.messages: list[ReceivedMessage] = []
        self.recipients: list[SeenRecipient] = []
        self.requests: list[PolicyRequest] = []
        self._clock: Clock = clock or SystemClock()
        self._ports = ports
        self._directory = Path(directory) if directory is not None else None
        self._wants_dns = dns
        self._slow_seconds = slow_seconds
        self._on_message = on_message
        self._stack = AsyncExitStack()
        self._ca: CertificateAuthority
        self._dns: DnsServer
        self._dns_port = 0
        self._https_port = 0
        self._smtp_port = 0
        self._mx_hosts: dict[str, tuple[MxHostServer, MxHost, ZooEntry]] = {}
        self._policy_hosts: dict[str, tuple[PolicyHostServer, ZooEntry]] = {}
        self._by_domain = {entry.domain: entry for entry in self.entries}

    # ---- life -------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Start everybody.

        Raises:
            OSError: A port is taken; the message says which.
        """
        try:
            self._make_directory()
            self._populate()
            await self._listen()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def _make_directory(self) -> None:
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="strictmail-lab-"))
            self._stack.callback(shutil.rmtree, self._directory, ignore_errors=True)
        else:
            self._directory.mkdir(parents=True, exist_ok=True)
        keys = self._directory / "keys"
        shutil.rmtree(keys, ignore_errors=True)
        keys.mkdir(mode=0o700)
        # Certificates are looked at by TLS libraries, which go by the machine's clock.
        self._ca = CertificateAuthority(keys, SystemClock().now())
        self._ca_file = self._directory / "ca.pem"
        shutil.copyfile(self._ca.ca_file, self._ca_file)

    def _populate(self) -> None:
        tlsa: dict[str, list[Tlsa]] = {}
        for entry in self.entries:
            for host in entry.mx:
                self._add_mx_host(host, entry, tlsa)
            if entry.policy is not None:
                self._add_policy_host(entry)
            add_entry(self.data, entry, self.addresses, tlsa)

    def _add_mx_host(self, host: MxHost, entry: ZooEntry, tlsa: dict[str, list[Tlsa]]) -> None:
        self.addresses[host.name] = _nth_address(MX_NETWORK, len(self._mx_hosts))
        credentials = self._mx_credentials(host.certificate, host, entry)
        tlsa[host.name] = [make_tlsa(text, credentials) for text in host.tlsa]
        server = MxHostServer(
            host.name,
            credentials,
            fault=host.fault,
            now=self._clock.now,
            on_message=self._take,
            on_recipient=self.recipients.append,
        )
        self._mx_hosts[host.name] = (server, host, entry)

    def _add_policy_host(self, entry: ZooEntry) -> None:
        assert entry.policy is not None
        name = entry.policy_host
        self.addresses[name] = _nth_address(POLICY_NETWORK, len(self._policy_hosts))
        server = PolicyHostServer(
            name,
            entry.policy.body,
            self._policy_credentials(entry.policy.certificate, entry),
            fault=entry.policy.fault,
            slow_seconds=self._slow_seconds,
            now=self._clock.now,
            on_request=self.requests.append,
        )
        self._policy_hosts[name] = (server, entry)

    def _mx_credentials(self, fault: CertFault, host: MxHost, entry: ZooEntry) -> Credentials:
        address, names = self.addresses[host.name], host.certificate_names
        return self._ca.issue(fault, host.name, domain=entry.domain, address=address, names=names)

    def _policy_credentials(self, fault: CertFault, entry: ZooEntry) -> Credentials:
        assert entry.policy is not None
        name, names = entry.policy_host, entry.policy.certificate_names
        address = self.addresses[name]
        return self._ca.issue(fault, name, domain=entry.domain, address=address, names=names)

    async def _listen(self) -> None:
        mx_hosts = {name: server for name, (server, _, _) in self._mx_hosts.items()}
        policy_hosts = {name: server for name, (server, _) in self._policy_hosts.items()}
        self._smtp_port = await self._start_all(mx_hosts, self._ports.smtp)
        self._https_port = await self._start_all(policy_hosts, self._ports.https)
        self._dns = DnsServer(self.data)
        if self._wants_dns:
            self._dns_port = await _with_free_port(
                self._ports.dns, lambda port: self._dns.start(DNS_HOST, port)
            )
            self._stack.push_async_callback(self._dns.close)

    async def _start_all(self, servers: Mapping[str, FaultyHost[Any]], port: int) -> int:
        async def start(port: int) -> int:
            started: list[FaultyHost[Any]] = []
            try:
                for name, server in servers.items():
                    port = server.start(self.addresses[name], port)
                    started.append(server)
            except OSError:
                await asyncio.gather(*(server.close() for server in started))
                raise
            return port

        port = await _with_free_port(port, start)

        async def close() -> None:
            await asyncio.gather(*(server.close() for server in servers.values()))

        self._stack.push_async_callback(close)
        return port

    def _take(self, message: ReceivedMessage) -> None:
        self.messages.append(message)
        line = json.dumps({**asdict(message), "at": message.at.isoformat()})
        with self.messages_file.open("a", encoding="ascii") as file:
            file.write(f"{line}\n")
        if self._on_message is not None:
            self._on_message(message)

    # ---- where everything is ----------------------------------------------------------------

    @property
    def directory(self) -> Path:
        """Where its files are."""
        assert self._directory is not None, "the lab has not been started"
        return self._directory

    @property
    def ca_file(self) -> str:
        """PEM file with the root that signs the good certificates."""
        return str(self._ca_file)

    @property
    def messages_file(self) -> Path:
        """What MX hosts took, one JSON object a line."""
        return self.directory / MESSAGES_FILE

    @property
    def dns_address(self) -> tuple[str, int]:
        """Where its resolver listens, on UDP and TCP."""
        return DNS_HOST, self._dns_port

    @property
    def https_port(self) -> int:
        """The port of all policy hosts."""
        return self._https_port

    @property
    def smtp_port(self) -> int:
        """The port of all MX hosts."""
        return self._smtp_port

    def entry(self, name: str) -> ZooEntry:
        """The inhabitant of that name or domain.

        Raises:
            KeyError: There is none.
        """
        return next((entry for entry in self.entries if entry.name == name), None) or _find(
            self._by_domain, name, "domain"
        )

    # ---- what was seen ----------------------------------------------------------------------

    def count(self, name: str, rdtype: str) -> int:
        """How often a question was asked; 0 without an own DNS server."""
        return self._dns.asked[fold(name), rdtype.upper()]

    @property
    def asked(self) -> Counter[tuple[str, str]]:
        """How often each (name, type) was asked for."""
        return self._dns.asked

    def fetches(self, domain: str) -> int:
        """How many requests a domain's policy host got over accepted TLS."""
        host = f"mta-sts.{fold(domain)}"
        return sum(request.host == host for request in self.requests)

    # ---- knobs ------------------------------------------------------------------------------

    def set_policy(self, domain: str, text: str | bytes) -> None:
        """Serve another body from now on. Takes no new id: see `publish`."""
        server, _ = self._policy_host(domain)
        server.body = text if isinstance(text, bytes) else text.encode()

    def set_txt(self, domain: str, rrset: Iterable[Sequence[str | bytes]]) -> None:
        """Replace the TXT RRset at `_mta-sts`: per record its character-strings; () for none."""
        name = f"_mta-sts.{fold(domain)}"
        self.data.replace(name, "TXT", [txt_data(strings) for strings in rrset])

    def set_id(self, domain: str, policy_id: str) -> None:
        """Announce this id in a good TXT record, and nothing else."""
        self.set_txt(domain, [[f"v=STSv1; id={policy_id};"]])

    def publish(self, domain: str, text: str | bytes, policy_id: str) -> None:
        """Do what an owner does for a new policy: the body first, then its id."""
        self.set_policy(domain, text)
        self.set_id(domain, policy_id)

    def change(self, domain: str) -> None:
        """Let the owner publish what the entry's `change` says.

        Raises:
            KeyError: There is no such domain.
            ValueError: Its owner plans no change.
        """
        change = self.entry(domain).change
        if change is None:
            raise ValueError(f"the owner of {domain} plans no change")
        self.publish(domain, change.body, change.policy_id)

    def break_policy_host(self, domain: str, fault: str) -> None:
        """Give a policy host a fault from the next connection on.

        Args:
            domain: The mail domain.
            fault: A `PolicyFault` or `CertFault` value; `good` heals both.

        Raises:
            KeyError: There is no such policy host.
            ValueError: There is no such fault.
        """
        server, entry = self._policy_host(domain)
        if fault == CertFault.GOOD:
            server.behave(PolicyFault.GOOD, self._policy_credentials(CertFault.GOOD, entry))
        elif fault in set(CertFault):
            server.behave(server.fault, self._policy_credentials(CertFault(fault), entry))
        else:
            server.behave(PolicyFault(fault))

    def break_mx_host(self, host: str, fault: str) -> None:
        """Give an MX host a fault from the next connection on.

        Args:
            host: Its name, as in the MX record.
            fault: A `MxFault` or `CertFault` value; `good` heals both.

        Raises:
            KeyError: There is no such host.
            ValueError: There is no such fault.
        """
        server, spec, entry = _find(self._mx_hosts, host, "MX host")
        if fault == CertFault.GOOD:
            server.behave(MxFault.GOOD, self._mx_credentials(CertFault.GOOD, spec, entry))
        elif fault in set(CertFault):
            server.behave(server.fault, self._mx_credentials(CertFault(fault), spec, entry))
        else:
            server.behave(MxFault(fault))

    def break_dns(self, name: str, rdtype: str, fault: str) -> None:
        """Treat one question in a special way from now on.

        Args:
            name: The name asked for; of an alias, the alias.
            rdtype: Such as `TXT`.
            fault: A `DnsFault` value; `none` heals.

        Raises:
            ValueError: There is no such fault.
        """
        self._dns.faults[fold(name), rdtype.upper()] = DnsFault(fault)

    async def add_name_server(
        self, zone: str, name: str, address: str
    ) -> tuple[DnsData, tuple[str, int]]:
        """Let a zone have one more name server, which may say something else.

        Args:
            zone: One of the lab's.
            name: Of the server, such as `ns2.test`.
            address: What DNS says of it. Questions have to be led to where it listens.

        Returns:
            What it answers from, a copy that may be changed; and where it listens.

        Raises:
            OSError: No port is free.
        """
        data = deepcopy(self.data)
        self.data.secondaries.setdefault(fold(zone), []).append(name)
        self.data.replace(name, "A", [address])
        server = DnsServer(data)
        port = await _with_free_port(0, lambda port: server.start(DNS_HOST, port))
        self._stack.push_async_callback(server.close)
        return data, (DNS_HOST, port)

    def _policy_host(self, domain: str) -> tuple[PolicyHostServer, ZooEntry]:
        return _find(self._policy_hosts, f"mta-sts.{fold(domain)}", "policy host")


def _find(table: Mapping[str, T], name: str, what: str) -> T:
    try:
        return table[fold(name)]
    except KeyError:
        raise KeyError(f"there is no {what} {name} in this lab") from None


def _nth_address(network: str, number: int) -> str:
    block, place = divmod(number, HOSTS_PER_BLOCK)
    return f"{network}.{block}.{place + 1}"


async def _with_free_port(port: int, start: Callable[[int], object]) -> int:
    """Start servers at a port, or at any that is free at all their addresses."""
    attempts = 1 if port else PORT_ATTEMPTS
    while True:
        attempts -= 1
        try:
            found = start(port)
            result = await found if asyncio.iscoroutine(found) else found
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not attempts:
                raise
        else:
            assert isinstance(result, int)
            return result
