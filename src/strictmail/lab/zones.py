# SPDX-License-Identifier: Apache-2.0
"""The lab's DNS as zone files for real name servers, which then sign and validate in earnest.

Three kinds of fault come out of the delegations alone, without damaging any signature: a *bogus*
zone has a DS record in its parent that fits no key, an *unsigned* one has none, and a *dead* one
is delegated to the authority, which is not given the zone. Each ends as the lab's own server says:
SERVFAIL, insecure, SERVFAIL.
"""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from strictmail.core.names import fold, parent
from strictmail.lab.dnsdata import AUTHORITY, AUTHORITY_ADDRESS, MAIN_ZONES, TTL_SECONDS, ZoneKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from strictmail.lab.dnsdata import DnsData
    from strictmail.lab.net import Lab

NEGATIVE_TTL_SECONDS: Final = 5
"""How long "there is none" may be kept: short, so that the lab's zones can be changed."""

WRONG_DS: Final = f"DS 4711 13 2 {'0' * 64}"
LIST_FILE: Final = "zones.json"


class Ds(enum.StrEnum):
    """What a parent says about a zone's keys."""

    RIGHT = "right"
    """Whoever signs the zone puts its DS records into the parent."""
    WRONG = "wrong"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class ZoneFile:
    """One zone to be served.

    Attributes:
        name: With its final dot; "." is the root.
        parent: The zone it is delegated from, with final dot; "" for the root.
        ds: What that zone has to say of its keys; the root's are the trust anchor.
        records: Its records, one a line, absolute names: without its own SOA and NS, and without
            the NS and DS records of the other main zones, but with those of small zones below it.
        is_main: Whether it is one of the five zones that every lab has.
    """

    name: str
    parent: str
    ds: Ds
    records: str
    is_main: bool

    @property
    def signed(self) -> bool:
        """Whether it is to be signed. Bogus zones may be, with any key."""
        return self.ds is Ds.RIGHT

    @property
    def file_name(self) -> str:
        """A name for its file."""
        return f"{self.name.rstrip('.') or 'root'}.zone"


def zone_files(lab: Lab) -> tuple[ZoneFile, ...]:
    """Every zone that the authority serves, parents first; dead ones are not among them."""
    data = lab.data
    names = sorted(data.zones, key=lambda name: (name.count("."), bool(name), name))
    return tuple(
        ZoneFile(
            name=f"{name}.",
            parent=f"{data.zone_of(parent(name))}." if name else "",
            ds=_ds_of(data.zones[name]),
            records="".join(f"{line}\n" for line in _lines(data, name)),
            is_main=name in MAIN_ZONES,
        )
        for name in names
        if data.zones[name] is not ZoneKind.DEAD
    )


def write_zones(directory: str | Path, lab: Lab) -> tuple[ZoneFile, ...]:
    """Write a complete zone file for each zone, and `zones.json`, which lists them.

    DS records that depend on keys (`Ds.RIGHT`) are left to whoever signs: their place in the
    parent's file is a comment.

    Args:
        directory: Made if it is not there.
        lab: A lab that runs.

    Returns:
        What was written, parents first.

    Raises:
        OSError: A file cannot be written.
    """
    place = Path(directory)
    place.mkdir(parents=True, exist_ok=True)
    zones = zone_files(lab)
    for zone in zones:
        (place / zone.file_name).write_text(_whole_text(zone, zones), encoding="ascii")
    listing = [
        {"zone": zone.name, "file": zone.file_name, "parent": zone.parent, "ds": zone.ds}
        for zone in zones
    ]
    (place / LIST_FILE).write_text(json.dumps(listing, indent=1) + "\n", encoding="ascii")
    return zones


def _whole_text(zone: ZoneFile, zones: tuple[ZoneFile, ...]) -> str:
    soa = f"{AUTHORITY}. hostmaster.test. 1 3600 600 86400 {NEGATIVE_TTL_SECONDS}"
    lines = [
        f"$ORIGIN {zone.name}",
        f"$TTL {TTL_SECONDS}",
        f"{zone.name} SOA {soa}",
        f"{zone.name} NS {AUTHORITY}.",
    ]
    if zone.name == ".":
        lines.append(f"{AUTHORITY}. A {AUTHORITY_ADDRESS}")
    for child in zones:
        if child.is_main and child.parent == zone.name:
            lines.append(f"{child.name} NS {AUTHORITY}.")
            if child.ds is Ds.WRONG:
                lines.append(f"{child.name} {WRONG_DS}")
            elif child.ds is Ds.RIGHT:
                lines.append(f"; the DS records of {child.name} belong here")
    return "\n".join(lines) + "\n" + zone.records


def _ds_of(kind: ZoneKind) -> Ds:
    return {ZoneKind.SIGNED: Ds.RIGHT, ZoneKind.BOGUS: Ds.WRONG}.get(kind, Ds.NONE)


def _lines(data: DnsData, zone: str) -> Iterator[str]:
    for name in data.names_in(zone):
        for rdtype, rrset in data.records[name].items():
            for rdata in rrset:
                yield f"{fold(name)}. {rdtype} {rdata}"
    for child, kind in data.zones.items():
        if child in MAIN_ZONES or data.zone_of(parent(child)) != zone:
            continue
        yield f"{child}. NS {AUTHORITY}."
        if kind is ZoneKind.BOGUS:
            yield f"{child}. {WRONG_DS}"
