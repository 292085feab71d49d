# SPDX-License-Identifier: Apache-2.0
"""Every option, described once: name, kind, range, default, one sentence.

Validation (`strictmail.runtime.config`), `strictmail config show|check|reference|sample`, the
manual page, the reference and the sample file are all made from these tables.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from strictmail import __version__
from strictmail.core.decision import FailureStance, Level, PartialDane, TestingStance
from strictmail.runtime import kinds
from strictmail.runtime.option import Option, Table, seconds
from strictmail.runtime.options_collector import COLLECTOR
from strictmail.runtime.options_reporter import IDENTITY, REPORTER

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_CONFIG_PATH: Final = "/etc/strictmail/strictmail.toml"
DEFAULT_STATE_DIRECTORY: Final = "/var/lib/strictmail"


class LogLevel(enum.StrEnum):
    """The least severe lines that are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(enum.StrEnum):
    """How a log line is written."""

    AUTO = "auto"
    TEXT = "text"
    JSON = "json"
    JOURNALD = "journald"


class TrustAd(enum.StrEnum):
    """Whose AD bit is believed."""

    LOOPBACK = "loopback"
    ALWAYS = "always"
    NEVER = "never"


class Dialect(enum.StrEnum):
    """Whose language a listener answers in."""

    POSTFIX = "postfix"
    POSTFIX_TLSRPT = "postfix-tlsrpt"
    SENDMAIL = "sendmail"
    EXIM = "exim"


PORT25_CANARIES: Final = (
    "gmail-smtp-in.l.google.com",
    "outlook-com.olc.protection.outlook.com",
    "mx01.mail.icloud.com",
    "mta5.am0.yahoodns.net",
)
"""MX hosts of the largest receivers: if none of them can be connected to, it is not they."""

_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86_400

_TOP: Final = Table(
    "",
    "What runs, and where it keeps its state.",
    (
        Option(
            "state_directory",
            kinds.Path(),
            DEFAULT_STATE_DIRECTORY,
            "Directory of the policy cache and of the overrides.",
            "Where it is not set, $STATE_DIRECTORY counts, which systemd sets from "
            "`StateDirectory=`; `--state-directory` counts before both.",
        ),
        Option(
            "roles",
            kinds.Words(("resolver", "collector", "reporter"), optional=True),
            [],
            "The roles that `strictmail serve` runs when it is given none.",
            "An empty list means all that are configured: `resolver` always, `collector` where "
            "there is a [[collector]], `reporter` where [reporter] has a contact.",
        ),
    ),
)

_LOG: Final = Table(
    "log",
    "What is written to standard error.",
    (
        Option("level", kinds.Choice(LogLevel), "info", "The least severe lines that are written."),
        Option(
            "format",
            kinds.Choice(LogFormat),
            "auto",
            "How a line is written.",
            "`auto` is `journald` (a priority in front of each line) where standard error goes to "
            "the journal, else `text`.",
        ),
    ),
)

_DNS: Final = Table(
    "dns",
    "The validating resolver that is asked.",
    (
        Option(
            "servers",
            kinds.Servers(),
            [],
            "The name servers to ask, in this order; an empty list means those of "
            "/etc/resolv.conf.",
        ),
        Option(
            "trust_ad",
            kinds.Choice(TrustAd),
            "loopback",
            "Whose statement that an answer is DNSSEC-validated (the AD bit) is believed.",
            "`loopback` believes name servers on this machine. Choose `always` only where nobody "
            "can change packets on the way to the name servers. With `never`, DANE is off.",
        ),
        Option(
            "timeout",
            seconds(0.1, 30),
            "3s",
            "How long one question to one name server may take.",
        ),
        Option(
            "attempts",
            kinds.Integer(1, 10),
            3,
            "How often a question is asked before the lookup counts as failed.",
        ),
    ),
)

_POLICY: Final = Table(
    "policy",
    "How MTA-STS policies are fetched.",
    (
        Option(
            "fetch_timeout",
            seconds(1, 10 * _MINUTE),
            "60s",
            "How long the whole fetch of a policy may take.",
            "RFC 8461 §3.3 suggests one minute.",
        ),
        Option(
            "fetch_concurrency",
            kinds.Integer(1, 10_000, "fetches"),
            64,
            "How many policies are fetched at the same time.",
        ),
        Option(
            "ca_file",
            kinds.Path(optional=True),
            "",
            "A PEM file with the certification authorities that policy hosts are verified "
            "against; empty: the system's.",
        ),
        Option(
            "allow_networks",
            kinds.Networks(),
            [],
            "Networks that a policy host may live in although they are not public.",
            "Without them, only addresses of the public internet are connected to, so that no "
            "domain can make this machine talk to its own neighbours.",
        ),
        Option(
            "connect_port",
            kinds.Integer(1, 65_535),
            443,
            "The TCP port of policy hosts; anything but 443 is for a lab.",
        ),
        Option(
            "user_agent",
            kinds.Text(r"[!-~]([ -~]{0,198}[!-~])?", "1 to 200 printable ASCII characters", "x/1"),
            f"strictmail/{__version__}",
            "What the fetcher calls itself.",
        ),
    ),
)

_CACHE: Final = Table(
    "cache",
    "How policies are remembered.",
    (
        Option(
            "refresh_interval",
            seconds(_HOUR, 30 * _DAY),
            "1d",
            "How often a cached policy is refreshed without being asked for.",
            "A policy that lives shorter is refreshed well before it expires.",
        ),
        Option(
            "idle_after",
            seconds(_DAY, 366 * _DAY),
            "30d",
            "Policies of domains that nobody asked for during this time are no longer refreshed.",
            "They stay in force until they expire.",
        ),
        Option(
            "negative_ttl",
            seconds(1, _HOUR),
            "5m",
            "How long it is remembered at most that a domain has no policy.",
        ),
        Option(
            "hot_entries",
            kinds.Integer(100, 10_000_000, "replies"),
            100_000,
            "How many finished replies each listener keeps in memory.",
        ),
        Option(
            "known_entries",
            kinds.Integer(100, 10_000_000, "domains"),
            100_000,
            "The states of how many domains are kept in memory; policies beyond that are read "
            "from disk.",
        ),
        Option(
            "per_registrable_domain",
            kinds.Integer(1, 10_000_000, "policies"),
            10_000,
            "How many policies are cached under one registrable domain.",
            "Bounds what somebody with a wildcard record can make the cache hold.",
        ),
    ),
)

_DECISION: Final = Table(
    "decision",
    "What an operator has to decide.",
    (
        Option(
            "partial_dane",
            kinds.Choice(PartialDane),
            "dane-only",
            "What is demanded when only some MX hosts have usable TLSA records and the policy "
            "enforces.",
            "`dane-only` uses the hosts with TLSA records; `secure` goes by the policy alone.",
        ),
        Option(
            "testing",
            kinds.Choice(TestingStance),
            "silent",
            "What is answered for a policy in testing mode.",
            "`silent` answers as without a policy; `annotate` adds the policy's attributes at the "
            "default level, in the dialect postfix-tlsrpt only.",
        ),
        Option(
            "dns_failure",
            kinds.Choice(FailureStance),
            "deliver",
            "What mail does when the lookup of the TXT record fails and no policy is cached.",
            "RFC 8461 §3.1 goes on without a policy; `defer` lets the mail wait.",
        ),
        Option(
            "off_policy_dane",
            kinds.Choice(FailureStance),
            "deliver",
            "What mail does when DANE authenticates an MX host that the policy does not list.",
        ),
        Option(
            "smart_host_policy",
            kinds.Flag(),
            True,  # noqa: FBT003 - a value
            "Whether the policy of `[name]` is looked up when mail is routed to that name.",
        ),
        Option(
            "answer_deadline",
            seconds(0.1, 89),
            "10s",
            "How long an MTA waits for an answer at most; lookups go on behind it.",
            "Postfix gives up after 100 s.",
        ),
    ),
)

LISTENER: Final = Table(
    "listener",
    "A socketmap server that an MTA asks; there may be many.",
    (
        Option(
            "name",
            kinds.Text(
                r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}",
                "1 to 32 letters, digits, hyphens and underscores",
                "postfix",
            ),
            None,
            "Its name in logs, metrics and commands; each has its own.",
        ),
        Option("socket", kinds.Socket(), None, "Where it listens."),
        Option(
            "mode",
            kinds.FileMode(),
            "0666",
            "The rights of a unix socket; other sockets have none.",
        ),
        Option(
            "dialect",
            kinds.Choice(Dialect),
            "postfix",
            "Whose language it speaks.",
            "`postfix` is for Postfix up to 3.9, `postfix-tlsrpt` for 3.10 and later: an older "
            "Postfix defers all mail on the attributes that the newer one knows.",
        ),
        Option(
            "default_level",
            kinds.Choice(
                Level, Level.MAY, Level.ENCRYPT, Level.DANE, Level.DANE_ONLY, Level.SECURE
            ),
            "may",
            "The MTA's own default TLS level; no answer is below it.",
            "The value of `smtp_tls_security_level`; `secure` stands for `verify` too.",
        ),
        Option(
            "dane",
            kinds.Flag(),
            False,  # noqa: FBT003 - a value
            "Whether the MTA does DANE by itself.",
            "Needs `smtp_dns_support_level = dnssec` in Postfix.",
        ),
        Option(
            "observe",
            kinds.Flag(),
            False,  # noqa: FBT003 - a value
            "Answer that nothing is demanded, and only log and count what would have been said.",
        ),
        Option(
            "max_connections",
            kinds.Integer(1, 100_000, "connections"),
            4096,
            "How many connections it holds at the same time.",
        ),
        Option(
            "idle_timeout",
            seconds(1, _DAY),
            "120s",
            "Connections on which nothing is asked for this long are closed.",
            "Postfix keeps its own for 100 s at most.",
        ),
    ),
    repeated=True,
)

_HTTP: Final = Table(
    "http",
    "The HTTP server for decisions, metrics and health.",
    (
        Option(
            "listen",
            kinds.OptionalSocket(),
            "127.0.0.1:8460",
            "Where it listens; an empty string switches it off.",
            "It has no authentication: keep it on this machine or behind something that has.",
        ),
    ),
)

_CHECK: Final = Table(
    "check",
    "How `strictmail check` looks at other people's servers.",
    (
        Option(
            "ehlo_name",
            kinds.Text(
                r"([A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|\[[0-9A-Za-z:.]+\])?",
                "a host name, an address in brackets, or empty",
                "mail.example.com",
            ),
            "",
            "The name that is said to MX hosts in EHLO; empty: this machine's.",
            "Some hosts talk only to a name that resolves to the address they see.",
        ),
        Option(
            "ca_file",
            kinds.Path(optional=True),
            "",
            "A PEM file with the certification authorities that MX hosts are verified against; "
            "empty: the system's.",
        ),
        Option(
            "deadline",
            seconds(5, 30 * _MINUTE),
            "90s",
            "How long the check of one domain may take; what is missing by then is unknown.",
        ),
        Option(
            "connect_timeout",
            seconds(0.1, 5 * _MINUTE),
            "15s",
            "How long a TCP connection to an MX host may take.",
        ),
        Option(
            "greeting_timeout",
            seconds(0.1, 5 * _MINUTE),
            "45s",
            "How long the greeting of an MX host may take.",
            "Some hosts wait on purpose, to see who does not.",
        ),
        Option(
            "command_timeout",
            seconds(0.1, 5 * _MINUTE),
            "30s",
            "How long an MX host may take for each further reply and for the TLS handshake.",
        ),
        Option(
            "concurrency",
            kinds.Integer(1, 10_000, "domains"),
            100,
            "How many domains of a list are checked at the same time.",
        ),
        Option(
            "operator_connections",
            kinds.Integer(1, 1000, "connections"),
            16,
            "How many connections are open at once to MX hosts under one registrable domain.",
        ),
        Option(
            "port25_canaries",
            kinds.Names(),
            list(PORT25_CANARIES),
            "MX hosts of large receivers that are connected to first, to see whether outbound "
            "port 25 is open; an empty list: not tested.",
        ),
    ),
)

TABLES: Final[tuple[Table, ...]] = (
    _TOP,
    _LOG,
    _DNS,
    _POLICY,
    _CACHE,
    _DECISION,
    _HTTP,
    _CHECK,
    REPORTER,
    LISTENER,
    COLLECTOR,
    IDENTITY,
)
"""All tables; the top level first, since TOML wants its keys before any header."""

DEFAULT_LISTENER: Final[dict[str, kinds.Toml]] = {
    "name": "postfix",
    "socket": "inet:127.0.0.1:8461",
}
"""The one listener of a configuration that has none."""


def iterate_options() -> Iterator[tuple[Table, Option]]:
    """All options, each with its table."""
    for table in TABLES:
        for option in table.options:
            yield table, option
