# SPDX-License-Identifier: Apache-2.0
"""Well-known receivers by the names of their MX hosts, and the policy lines that fit them.

Knows what these receivers publish about themselves: the names that customers put into their MX
records and, where they say so, the `mx` lines of a policy. It says nothing of who they are
otherwise. A set of hosts belongs to a receiver only if all of them do: behind a filter or a second
provider nobody but the owner knows what is right.

Choice: only receivers whose names are stable and public are here; a long list would age unseen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from strictmail.core.names import fold, parent

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Receiver:
    """A receiver that takes the mail of a domain.

    Attributes:
        name: As people know it.
        patterns: The `mx` patterns that allow the given hosts, and whatever the receiver may
            add beside them; in order.
        documented: Patterns that the receiver tells its customers to list, too: they are right
            in a policy, whether they match a host today or not.
        advice: What is worth knowing beside, in a sentence or two; "" for nothing.
        zones: The names that its hosts stand under.
    """

    name: str
    patterns: tuple[str, ...]
    documented: tuple[str, ...]
    advice: str
    zones: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Preset:
    """How a receiver's hosts are known.

    Attributes:
        hosts: Names in full.
        below: Names under which each host has one label of its own.
        far_below: Names under which each host has two.
    """

    name: str
    hosts: tuple[str, ...] = ()
    below: tuple[str, ...] = ()
    far_below: tuple[str, ...] = ()
    documented: tuple[str, ...] = ()
    advice: str = ""

    def pattern(self, host: str) -> str:
        """The pattern that allows a host; "" if it is none of this receiver's."""
        if host in self.hosts:
            return host
        above = parent(host)
        # RFC 8461 §4.1: `*` is one label, so the pattern hangs right above the host (STS-APP-20).
        if above in self.below or parent(above) in self.far_below:
            return f"*.{above}"
        return ""


_PRESETS: Final = (
    _Preset(
        name="Microsoft 365",
        below=("mail.protection.outlook.com",),
        # The names with DNSSEC: <customer>.<letter>-v1.mx.microsoft.
        far_below=("mx.microsoft",),
        documented=("*.mail.protection.outlook.com",),
        advice="With DANE in mind, move the MX record to the name under `mx.microsoft` that "
        "Exchange Online gives for the domain, and put that name into the policy first. "
        "`*.mx.microsoft` does not cover it: `*` is one label.",
    ),
    _Preset(
        name="Google Workspace",
        hosts=(
            "smtp.google.com",
            "aspmx.l.google.com",
            "aspmx2.googlemail.com",
            "aspmx3.googlemail.com",
            "aspmx4.googlemail.com",
            "aspmx5.googlemail.com",
        ),
        below=("aspmx.l.google.com",),
        documented=("smtp.google.com", "aspmx.l.google.com", "*.aspmx.l.google.com"),
        advice="Its MX hosts have no DANE: MTA-STS is what protects mail to them.",
    ),
    _Preset(
        name="Cloudflare Email Routing",
        below=("mx.cloudflare.net",),
        documented=("*.mx.cloudflare.net",),
        advice="Its `_mta-sts` record can be used through a CNAME to `_mta-sts.mx.cloudflare.net`.",
    ),
    _Preset(
        name="Proton Mail",
        hosts=("mail.protonmail.ch", "mailsec.protonmail.ch"),
        advice="Its MX hosts have DANE, which works once the domain itself is signed.",
    ),
    _Preset(
        name="Fastmail",
        hosts=("in1-smtp.messagingengine.com", "in2-smtp.messagingengine.com"),
    ),
    _Preset(
        name="iCloud Mail",
        hosts=("mx01.mail.icloud.com", "mx02.mail.icloud.com"),
    ),
)


def recognise(mx_hosts: Sequence[str]) -> Receiver | None:
    """The receiver that all these hosts belong to.

    Args:
        mx_hosts: MX host names, any case.

    Returns:
        None for no hosts, unknown ones, and sets of more than one receiver.
    """
    hosts = [fold(host) for host in mx_hosts]
    for preset in _PRESETS:
        patterns = [preset.pattern(host) for host in hosts]
        if hosts and all(patterns):
            return Receiver(
                name=preset.name,
                patterns=tuple(dict.fromkeys(patterns)),
                documented=preset.documented,
                advice=preset.advice,
                zones=(*preset.hosts, *preset.below, *preset.far_below),
            )
    return None


def points_at(receiver: Receiver, mx_pattern: str) -> bool:
    """Whether a pattern was meant for a receiver's hosts, right or wrong.

    True where its name is one of the receiver's, stands under one, or above one (two labels at
    least: `*.com` is meant for nobody).
    """
    base = fold(mx_pattern.removeprefix("*."))
    return "." in base and any(
        base == zone or base.endswith(f".{zone}") or zone.endswith(f".{base}")
        for zone in receiver.zones
    )
