# SPDX-License-Identifier: Apache-2.0
"""The zoo: domains with one named fault each, and what must happen to mail for them.

Expectations come from the requirements and from `core.decision`'s documented rules, never from a
run. Changing one needs a `Departs:` with its reason.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from strictmail.lab import zoo_dane, zoo_hosts, zoo_policies, zoo_records
from strictmail.lab.entries import Delivery, Departure, Expectation, Outcome, ZooEntry
from strictmail.lab.zoo_findings import FINDINGS, read_findings

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SECTIONS", "ZOO", "Delivery", "Departure", "Expectation", "Outcome", "ZooEntry"]

SECTIONS: Final[Mapping[str, tuple[ZooEntry, ...]]] = {
    title: tuple(replace(one, findings=read_findings(FINDINGS[one.name])) for one in entries)
    for title, entries in {
        "Domains without policy": zoo_records.WITHOUT_POLICY,
        "Records": zoo_records.RECORDS,
        "Policy hosts": zoo_policies.HOSTS,
        "Policy bodies": zoo_policies.BODIES,
        "Modes": zoo_policies.MODES,
        "Certificates of MX hosts": zoo_hosts.CERTIFICATES,
        "SMTP service of MX hosts": zoo_hosts.SERVICES,
        "Sets of MX hosts": zoo_hosts.SETS,
        "DANE satisfied": zoo_dane.GOOD,
        "DANE not satisfied": zoo_dane.BAD,
        "DANE not applicable": zoo_dane.INSECURE,
        "DANE and MTA-STS": zoo_dane.TOGETHER,
    }.items()
}
"""The entries by subject, in the order in which they are shown."""

ZOO: Final[tuple[ZooEntry, ...]] = tuple(
    entry for section in SECTIONS.values() for entry in section
)
"""All entries; domains and names are unique."""
