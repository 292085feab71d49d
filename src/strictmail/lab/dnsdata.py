# SPDX-License-Identifier: Apache-2.0
"""What the lab's DNS holds: records in master file form, and what each zone is worth.

Knows nothing of packets. A name belongs to the longest zone that it ends in; that zone decides
whether a validating resolver would call an answer secure, insecure, bogus, or get none at all.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from strictmail.core.names import fold, parent
from strictmail.lab.entries import CutKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from strictmail.core.dnsvalues import Tlsa
    from strictmail.lab.entries import MxHost, PolicyHost, ZooEntry

TTL_SECONDS: Final = 60
TLSA_LABELS: Final = "_25._tcp"
AUTHORITY: Final = "ns.test"
"""The name server of all zones, for those who ask."""

AUTHORITY_ADDRESS: Final = "127.0.0.2"


class ZoneKind(enum.Enum):
    """What a validating resolver makes of a zone."""

    SIGNED = "signed"
    UNSIGNED = "unsigned"
    BOGUS = "bogus"
    DEAD = "dead"


MAIN_ZONES: Final[Mapping[str, ZoneKind]] = {
    "": ZoneKind.SIGNED,
    "test": ZoneKind.SIGNED,
    "plain.test": ZoneKind.UNSIGNED,
    "signed.test": ZoneKind.SIGNED,
    "bogus.test": ZoneKind.BOGUS,
}
"""The zones that every lab has; the root is ""."""

_KIND_OF_CUT: Final = {
    CutKind.BOGUS: ZoneKind.BOGUS,
    CutKind.DEAD: ZoneKind.DEAD,
    CutKind.UNSIGNED: ZoneKind.UNSIGNED,
}


@dataclass(slots=True)
class DnsData:
    """Zones and their records.

    Attributes:
        zones: Name -> what it is.
        records: Owner name -> type -> data in presentation form, in the order they are given.
        secondaries: Zone -> names of servers that its NS records list beside AUTHORITY.
    """

    zones: dict[str, ZoneKind] = field(default_factory=lambda: dict(MAIN_ZONES))
    records: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    secondaries: dict[str, list[str]] = field(default_factory=dict)

    def add(self, name: str, rdtype: str, *data: str) -> None:
        """Add records; those that are there already are not repeated."""
        rrset = self.records.setdefault(fold(name), {}).setdefault(rdtype, [])
        rrset.extend(one for one in data if one not in rrset)

    def replace(self, name: str, rdtype: str, data: Iterable[str]) -> None:
        """Put these records in the place of those of that name and type; none: they are gone."""
        at_name = self.records.setdefault(fold(name), {})
        at_name.pop(rdtype, None)
        if kept := list(data):
            at_name[rdtype] = kept
        if not at_name:
            del self.records[fold(name)]

    def get(self, name: str, rdtype: str) -> list[str]:
        """The data of one RRset, perhaps none."""
        return self.records.get(fold(name), {}).get(rdtype, [])

    def exists(self, name: str) -> bool:
        """Whether a name is there: it has records, or something below it has."""
        return (
            name in self.records
            or name in self.zones
            or any(other.endswith(f".{name}") for other in (*self.records, *self.zones))
        )

    def zone_of(self, name: str) -> str:
        """The name of the zone that a name belongs to."""
        zone = fold(name)
        while zone not in self.zones:
            zone = parent(zone)
        return zone

    def kind_of(self, name: str) -> ZoneKind:
        """What the zone of a name is."""
        return self.zones[self.zone_of(name)]

    def names_in(self, zone: str) -> Iterator[str]:
        """The names with records in one zone, without those in zones below it."""
        return (name for name in self.records if self.zone_of(name) == zone)


def txt_data(strings: Iterable[str | bytes]) -> str:
    """One TXT record in presentation form: each character-string quoted, octets escaped."""
    return " ".join(_quote(text) for text in strings)


def _quote(text: str | bytes) -> str:
    octets = text if isinstance(text, bytes) else text.encode()
    inner = "".join(
        chr(octet) if 0x20 <= octet < 0x7F and octet not in b'"\\' else f"\\{octet:03d}"  # noqa: PLR2004 - printable ASCII
        for octet in octets
    )
    return f'"{inner}"'


def tlsrpt_record(domain: str) -> str:
    """Where a zoo domain wants reports (RFC 8460 §3)."""
    return txt_data([f"v=TLSRPTv1; rua=mailto:tlsrpt@{domain}"])


def add_entry(
    data: DnsData, entry: ZooEntry, addresses: Mapping[str, str], tlsa: Mapping[str, list[Tlsa]]
) -> None:
    """Add everything that an entry has in DNS.

    Args:
        data: Where to.
        entry: The domain.
        addresses: Host name -> address, of MX and policy hosts.
        tlsa: MX host name -> its TLSA records.
    """
    for cut in entry.cuts:
        data.zones[cut.name] = _KIND_OF_CUT[cut.kind]
    data.add(f"_smtp._tls.{entry.domain}", "TXT", tlsrpt_record(entry.domain))
    if entry.txt:
        data.add(entry.record_name, "TXT", *map(txt_data, entry.txt))
    for host in entry.mx:
        if entry.has_mx_records:
            data.add(entry.domain, "MX", f"{host.preference} {host.name}.")
        _add_mx_host(data, host, addresses, tlsa)
    if entry.policy is not None:
        _add_policy_host(data, entry.policy_host, entry.policy, addresses)
    for line in entry.records:
        name, rdtype, rdata = line.split(maxsplit=2)
        data.add(name, rdtype, rdata)


def _add_mx_host(
    data: DnsData, host: MxHost, addresses: Mapping[str, str], tlsa: Mapping[str, list[Tlsa]]
) -> None:
    if host.canonical:
        data.add(host.name, "CNAME", f"{host.canonical}.")
    if host.has_address:
        data.add(host.base_domain, "A", addresses[host.name])
    for record in tlsa.get(host.name, ()):
        owner = host.tlsa_owner or f"{TLSA_LABELS}.{host.base_domain}"
        data.add(owner, "TLSA", str(record))


def _add_policy_host(
    data: DnsData, name: str, host: PolicyHost, addresses: Mapping[str, str]
) -> None:
    if not host.has_address:
        return
    if host.canonical:
        data.add(name, "CNAME", f"{host.canonical}.")
    for address in host.addresses:
        rdtype = "AAAA" if ":" in address else "A"
        data.add(host.canonical or name, rdtype, addresses[name] if address == "lab" else address)


def base_data() -> DnsData:
    """The zones without any entry."""
    data = DnsData()
    data.add(AUTHORITY, "A", AUTHORITY_ADDRESS)
    return data
