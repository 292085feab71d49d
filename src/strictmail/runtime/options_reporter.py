# SPDX-License-Identifier: Apache-2.0
"""The options of the reporter: one table for all reports, one for each further sender identity."""

from __future__ import annotations

import enum
import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from strictmail.core.tlsrpt.session import is_addr_spec
from strictmail.runtime import kinds
from strictmail.runtime.option import Option, Table, seconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import timedelta

_HOUR: Final = 3600
_DAY: Final = 86_400
_KEY: Final = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?)=(/.+)")


class MailRoute(enum.StrEnum):
    """How report mail leaves."""

    RELAY = "relay"
    LMTP = "lmtp"
    DIRECT = "direct"
    OFF = "off"


class RelayProtection(enum.StrEnum):
    """How the connection to the relay is protected."""

    NONE = "none"
    STARTTLS = "starttls"
    IMPLICIT = "implicit"


@dataclass(frozen=True, slots=True)
class Address(kinds.Kind[str]):
    """A mailbox, or an empty string."""

    @property
    def word(self) -> str:
        """What the reference calls it."""
        return "address"

    @property
    def range_text(self) -> str:
        """The form."""
        return 'NAME@DOMAIN, or ""'

    def parse(self, value: object) -> str:
        """Check the form."""
        if not isinstance(value, str):
            what = kinds.type_name(value)
            raise ValueError(f'expected a string such as "tls-reports@example.com", not {what}')  # noqa: TRY004 - as all kinds
        if value and not is_addr_spec(value):
            raise ValueError(f"{value[:60]!r} is no address such as tls-reports@example.com")
        return value

    def format(self, value: str) -> kinds.Toml:
        """Write it."""
        return value


@dataclass(frozen=True, slots=True)
class DkimKeys(kinds.Kind[tuple[tuple[str, str], ...]]):
    """DKIM keys: `SELECTOR=FILE`."""

    @property
    def word(self) -> str:
        """What the reference calls it."""
        return "list of keys"

    @property
    def range_text(self) -> str:
        """The form."""
        return '"SELECTOR=/PATH/TO/KEY.pem"; at most 4'

    def parse(self, value: object) -> tuple[tuple[str, str], ...]:
        """Read each; whether the files are good is seen when they are used."""
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ValueError('expected a list such as ["tlsrpt=/etc/strictmail/dkim.pem"]')
        found = []
        for item in value:
            match = _KEY.fullmatch(item)
            if match is None or not item.isprintable():
                raise ValueError(f"{item[:80]!r} is not of the form SELECTOR=/PATH")
            found.append((match[1], match[3]))
        if len(found) > 4:  # noqa: PLR2004 - one of each kind, and the next of each
            raise ValueError(f"{len(found)} keys are more than the 4 that can sign")
        if len({selector for selector, _ in found}) != len(found):
            raise ValueError("a selector stands twice in the list")
        return tuple(found)

    def format(self, value: tuple[tuple[str, str], ...]) -> kinds.Toml:
        """Write them."""
        return [f"{selector}={path}" for selector, path in value]


_ORGANIZATION: Final = kinds.Text(r"[^\x00-\x1f\x7f]{0,200}", "at most 200 characters", "Example")
_WORD: Final = kinds.Text(
    r"([A-Za-z0-9][A-Za-z0-9_.-]{0,62})?",
    "at most 63 letters, digits, hyphens, underscores and dots",
    "mx1",
)

_KEYS: Final = Option(
    "dkim_keys",
    DkimKeys(),
    [],
    "The keys that report mail is signed with, each as `SELECTOR=FILE`; RSA or Ed25519, in PEM, "
    "readable by nobody else.",
    "RFC 8460 §3 wants report mail signed. Beside an Ed25519 key keep an RSA key: many verifiers "
    "know only that. `strictmail doctor` prints the TXT record to publish and compares it.",
)
_SIGNED: Final = Option(
    "signed_by_mta",
    kinds.Flag(),
    False,  # noqa: FBT003 - a value
    "Whether the MTA behind the relay signs report mail with DKIM; then no key is needed here.",
)
_SENDER: Final = Option(
    "sender",
    Address(),
    "",
    "The address in `From` of report mail; empty: the contact.",
    "Its domain has to be the contact's, so that DKIM, DMARC and the report agree.",
)

REPORTER: Final = Table(
    "reporter",
    "How TLS reports are made and sent (RFC 8460). It runs where `contact` is set.",
    (
        Option(
            "organization",
            _ORGANIZATION,
            "",
            "The name of your organization, as the readers of reports see it.",
        ),
        Option(
            "contact",
            Address(),
            "",
            "Whom the readers of reports can ask; its domain is the submitter.",
        ),
        _SENDER,
        Option(
            "installation",
            _WORD,
            "",
            "A word that tells this installation from others that report under the same contact.",
            "Where several hosts send the mail of one domain and each reports by itself, give each "
            "its own, so that their reports have different ids.",
        ),
        Option(
            "mail",
            kinds.Choice(MailRoute),
            "relay",
            "How reports go by mail.",
            "`relay` hands them to the server at `relay_host`, by default the MTA of this machine; "
            "`lmtp` is the same over LMTP; `direct` goes to the MX hosts itself; with `off`, only "
            "HTTPS destinations get reports.",
        ),
        Option(
            "relay_host",
            kinds.Text(
                r"[A-Za-z0-9:][A-Za-z0-9:._-]{0,252}", "a host name or an address", "127.0.0.1"
            ),
            "127.0.0.1",
            "The server that takes report mail.",
        ),
        Option("relay_port", kinds.Integer(1, 65_535), 25, "Its TCP port."),
        Option(
            "relay_tls",
            kinds.Choice(RelayProtection),
            "none",
            "How the connection to it is protected.",
            "With `starttls` and `implicit` its certificate has to be valid for `relay_host`.",
        ),
        Option(
            "relay_user",
            kinds.Text(r"[ -~]{0,128}", "at most 128 printable characters", "tlsrpt"),
            "",
            "The user to log in as; empty: without a login.",
        ),
        Option(
            "relay_password_file",
            kinds.Path(optional=True),
            "",
            "The file with the password, alone on its first line, readable by nobody else.",
        ),
        Option(
            "envelope_sender",
            Address(),
            "",
            "Where bounces of report mail go; empty: nowhere (the null sender).",
            "Give an address whose mail is piped into `strictmail report suppress --bounce -`, and "
            "dead destinations are left alone for a week.",
        ),
        _KEYS,
        _SIGNED,
        Option(
            "sessions_of_reports",
            kinds.Flag(),
            True,  # noqa: FBT003 - a value
            "Whether the collector hears of the sessions that carry report mail.",
            "Then a domain to which nothing but reports was sent on a day is not reported on: two "
            "reporters would write to each other for ever. Set it to false where the collector "
            "hears only of what Postfix 3.10 and later tell by datagram: they keep quiet about "
            'mail that says `TLS-Required: No`. With `mail = "direct"` it does not matter.',
        ),
        Option(
            "probe_testing",
            kinds.Flag(),
            False,  # noqa: FBT003 - a value
            "Whether the daemon visits the MX hosts of domains whose policy is in testing mode, to "
            "report how sessions fared that no MTA verified.",
            "It connects to other people's port 25 as `strictmail check` does, with the options of "
            "[check], and sends no mail: one session with each address of a domain's MX hosts, about "
            "once in six hours; a busy or silent one is asked once more, and after a restart all are "
            "visited again. MX hosts that are not public are visited where `policy.allow_networks` "
            "allows it. It needs a `contact`.",
        ),
        Option("copy_to", Address(), "", "A mailbox that gets a copy of each report."),
        Option(
            "spread",
            seconds(0, 20 * _HOUR),
            "4h",
            "Over how long the reports of a day go out, each at a random moment.",
            "RFC 8460 §4.1 gives four hours as the example.",
        ),
        Option(
            "per_destination",
            kinds.Integer(1, 1_000_000, "reports"),
            1000,
            "How many reports of one day a destination gets at most.",
            "Bounds what somebody can make you send to a victim with a wildcard record.",
        ),
        Option(
            "per_host",
            kinds.Integer(1, 10_000_000, "reports"),
            10_000,
            "The same for all destinations of one domain or web server together.",
        ),
        Option(
            "workers",
            kinds.Integer(1, 1000, "attempts"),
            32,
            "How many reports are sent at the same time.",
        ),
        Option(
            "host_workers",
            kinds.Integer(1, 100, "attempts"),
            4,
            "The same for one domain or web server.",
        ),
        Option("opt_out", kinds.Names(), [], "Domains that are never reported to."),
        Option(
            "allow_networks",
            kinds.Networks(),
            [],
            "Networks that reports are sent to although they are not public.",
            "Without them, nobody's record can make this machine talk to its own neighbours.",
        ),
        Option(
            "ca_file",
            kinds.Path(optional=True),
            "",
            "A PEM file with the certification authorities that HTTPS endpoints and the relay are "
            "verified against; empty: the system's.",
        ),
        Option(
            "retention",
            # Longer than sessions may be told of afterwards: a day that still gets some is not gone.
            seconds(8 * _DAY, 400 * _DAY),
            "30d",
            "How long counts, reports and what became of them are kept.",
        ),
    ),
)

IDENTITY: Final = Table(
    "identity",
    "A further name to report under, such as of another sending domain; a [[collector]] or "
    "`strictmail report import-log --identity` says whose sessions it takes.",
    (
        Option(
            "name",
            kinds.Text(
                r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}",
                "1 to 32 letters, digits, hyphens and underscores",
                "brand",
            ),
            None,
            "Its name in this file.",
        ),
        Option("organization", _ORGANIZATION, None, "As in [reporter]."),
        Option("contact", Address(), None, "As in [reporter]."),
        _SENDER,
        _KEYS,
        _SIGNED,
    ),
    repeated=True,
)


@dataclass(frozen=True, slots=True)
class ReporterConfig:
    """`[reporter]`. `contact` is empty where nothing is reported."""

    organization: str
    contact: str
    sender: str
    installation: str
    mail: MailRoute
    relay_host: str
    relay_port: int
    relay_tls: RelayProtection
    relay_user: str
    relay_password_file: str
    envelope_sender: str
    dkim_keys: tuple[tuple[str, str], ...]
    signed_by_mta: bool
    sessions_of_reports: bool
    probe_testing: bool
    copy_to: str
    spread: timedelta
    per_destination: int
    per_host: int
    workers: int
    host_workers: int
    opt_out: tuple[str, ...]
    allow_networks: tuple[str, ...]
    ca_file: str
    retention: timedelta


@dataclass(frozen=True, slots=True)
class IdentityConfig:
    """One `[[identity]]`."""

    name: str
    organization: str
    contact: str
    sender: str
    dkim_keys: tuple[tuple[str, str], ...]
    signed_by_mta: bool


def find_reporter_problems(reporter: ReporterConfig) -> Iterator[tuple[str, str]]:
    """What one option alone cannot tell: the option at fault, and a sentence."""
    label = "[reporter]"
    if not reporter.contact:
        return
    yield from _identity_problems(label, reporter, reporter.mail)
    if reporter.relay_user and not reporter.relay_password_file:
        yield "relay_user", f"{label}: relay_user needs a relay_password_file"
    in_clear = reporter.relay_tls is RelayProtection.NONE
    if reporter.relay_user and in_clear and not _is_this_machine(reporter.relay_host):
        where = f"the password would travel in the clear to {reporter.relay_host}"
        yield "relay_tls", f'{label}: {where}: write relay_tls = "starttls"'


def find_identity_problems(
    identity: IdentityConfig, earlier: Sequence[IdentityConfig], reporter: ReporterConfig
) -> Iterator[tuple[str, str]]:
    """The same for a further identity."""
    label = f"[[identity]] {identity.name}"
    if any(other.name == identity.name for other in earlier):
        yield "name", f"{label}: another identity has this name already"
    if not reporter.contact:
        yield "name", f"{label}: [reporter] has no contact, so that nothing is reported"
    yield from _identity_problems(label, identity, reporter.mail)


def _identity_problems(
    label: str, found: ReporterConfig | IdentityConfig, mail: MailRoute
) -> Iterator[tuple[str, str]]:
    if not found.organization.strip():
        yield "organization", f"{label}: organization is empty: reports need a name"
    if not found.contact:
        yield "contact", f"{label}: contact is empty: reports need one"
        return
    submitter = found.contact.rpartition("@")[2].lower()
    if found.sender and found.sender.rpartition("@")[2].lower() != submitter:
        # RFC 8460 §3, §5.3: the reporting domain is one (RPT-DLV-26, RPT-DLV-39).
        yield "sender", f"{label}: sender has to be an address at {submitter}, as contact is"
    if mail is not MailRoute.OFF and not found.dkim_keys and not found.signed_by_mta:
        # RFC 8460 §3: report mail bears a DKIM signature (RPT-DLV-31).
        how = 'signed_by_mta = true if the MTA does it, or mail = "off" in [reporter]'
        yield "dkim_keys", f"{label}: report mail has to be signed: give dkim_keys, or write {how}"


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
