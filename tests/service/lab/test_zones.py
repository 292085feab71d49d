# SPDX-License-Identifier: Apache-2.0
"""The exported zones: they load, are delegated as they should be, and say what the lab says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import dns.name
import dns.zone
import pytest

from strictmail.lab.entries import CutKind
from strictmail.lab.net import Lab
from strictmail.lab.zones import Ds, ZoneFile, write_zones
from strictmail.lab.zoo import ZOO

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.slow


SHA2_512_DIGITS = 128


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    async with Lab(dns=False) as running:
        yield running


def load(directory: Path, zone: ZoneFile) -> dns.zone.Zone:
    """Read a zone file; records that the library refuses as malformed are left out."""
    text = (directory / zone.file_name).read_text()
    short = [
        line
        for line in text.splitlines()
        if " TLSA 3 1 2 " in line and len(line.split()[-1]) != SHA2_512_DIGITS
    ]
    kept = "\n".join(line for line in text.splitlines() if line not in short)
    return dns.zone.from_text(kept, origin=zone.name, relativize=False)


def test_zones_load_and_form_a_tree(tmp_path: Path, lab: Lab) -> None:
    zones = write_zones(tmp_path, lab)
    names = [zone.name for zone in zones]
    assert names[:2] == [".", "test."]
    assert {"plain.test.", "signed.test.", "bogus.test."} < set(names)
    listing = json.loads((tmp_path / "zones.json").read_text())
    assert [item["zone"] for item in listing] == names
    for zone in zones:
        loaded = load(tmp_path, zone)
        assert loaded.get_rdataset(zone.name, "SOA") is not None
        assert loaded.get_rdataset(zone.name, "NS") is not None
        if zone.parent:
            above = load(tmp_path, next(z for z in zones if z.name == zone.parent))
            assert above.get_rdataset(zone.name, "NS") is not None
            assert (above.get_rdataset(zone.name, "DS") is not None) is (zone.ds is Ds.WRONG)


def test_what_the_parents_say_of_keys(tmp_path: Path, lab: Lab) -> None:
    ds = {zone.name: zone.ds for zone in write_zones(tmp_path, lab)}
    assert (ds["."], ds["test."], ds["signed.test."]) == (Ds.RIGHT, Ds.RIGHT, Ds.RIGHT)
    assert (ds["plain.test."], ds["bogus.test."]) == (Ds.NONE, Ds.WRONG)
    for entry in ZOO:
        for cut in entry.cuts:
            expected = {CutKind.BOGUS: Ds.WRONG, CutKind.UNSIGNED: Ds.NONE}.get(cut.kind)
            assert ds.get(f"{cut.name}.") == expected  # dead zones are served by nobody


def test_every_record_is_in_the_zone_it_belongs_to(tmp_path: Path, lab: Lab) -> None:
    zones = {zone.name: load(tmp_path, zone) for zone in write_zones(tmp_path, lab)}
    for name, at_name in lab.data.records.items():
        zone = zones[f"{lab.data.zone_of(name)}."]
        for rdtype, data in at_name.items():
            found = zone.get_rdataset(dns.name.from_text(name), rdtype)
            assert found is not None, (name, rdtype)
            missing = len(data) - len(found)
            assert missing == (
                1
                if name.endswith("mx.dane-agility-malformed.signed.test") and rdtype == "TLSA"
                else 0
            )


def test_no_name_lies_below_an_alias_of_its_own_type(lab: Lab) -> None:
    for name, at_name in lab.data.records.items():
        assert "CNAME" not in at_name or len(at_name) == 1, name
