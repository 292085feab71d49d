# SPDX-License-Identifier: Apache-2.0
"""Reading `postconf` and judging whether Postfix fits its listener. Pure."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from strictmail.core.decision import Level
from strictmail.runtime.addresses import InetSocket, UnixSocket, format_host_port
from strictmail.runtime.health import fail, ok, unknown, warn
from strictmail.runtime.options import Dialect

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from strictmail.runtime.config import ListenerConfig
    from strictmail.runtime.health import Finding

PARAMETERS: Final = (
    "mail_version",
    "queue_directory",
    "smtp_dns_support_level",
    "smtp_host_lookup",
    "smtp_tls_CAfile",
    "smtp_tls_CApath",
    "smtp_tls_connection_reuse",
    "smtp_tls_dane_insecure_mx_policy",
    "smtp_tls_enforce_sts_mx_patterns",
    "smtp_tls_loglevel",
    "smtp_tls_policy_maps",
    "smtp_tls_security_level",
    "smtp_tlsrpt_enable",
    "smtp_tlsrpt_skip_reused_handshakes",
    "smtp_tlsrpt_socket_name",
    "tls_append_default_CA",
)
"""What is read; a version that does not know one leaves it out."""

CA_FILE: Final = "/etc/ssl/certs/ca-certificates.crt"
"""Where Debian keeps the certification authorities."""

Version = tuple[int, int, int]

_FIXED_INSECURE_MX: Final[Mapping[tuple[int, int], int]] = {(3, 7): 13, (3, 8): 8, (3, 9): 2}
"""From these patch levels on, and from 3.10.0, `dane` need not be set for insecure MX RRsets."""

_TLSRPT_SINCE: Final = (3, 10, 0)
_SETTING: Final = re.compile(r"([A-Za-z0-9_./-]+)[ \t]*=[ \t]*(.*)")
_VERSION: Final = re.compile(r"(\d{1,9})\.(\d{1,9})(?:\.(\d{1,9}))?")

_LEVELS: Final[Mapping[str, Level]] = {
    "": Level.NONE,
    "none": Level.NONE,
    "may": Level.MAY,
    "encrypt": Level.ENCRYPT,
    "dane": Level.DANE,
    "dane-only": Level.DANE_ONLY,
    "verify": Level.SECURE,
    "secure": Level.SECURE,
}


@dataclass(frozen=True, slots=True)
class PostfixFacts:
    """What `postconf` said.

    Attributes:
        settings: Parameters in force, expanded.
        explicit: Names that main.cf sets.
        services: Lines of master.cf as `postconf -M` prints them.
        overrides: `-o` settings of services: (service, parameter) -> value.
        existing_files: Those of the files named in the settings that exist.
    """

    settings: Mapping[str, str]
    explicit: frozenset[str] = frozenset()
    services: tuple[str, ...] = ()
    overrides: Mapping[tuple[str, str], str] = field(default_factory=dict)
    existing_files: frozenset[str] = frozenset()

    def get(self, name: str) -> str:
        """A parameter's value, empty when it has none."""
        return self.settings.get(name, "")

    @property
    def version(self) -> Version | None:
        """The release, None when it cannot be told."""
        return parse_version(self.get("mail_version"))


def parse_settings(text: str) -> dict[str, str]:
    """Read `name = value` lines."""
    settings: dict[str, str] = {}
    for line in text.splitlines():
        match = _SETTING.fullmatch(line.strip())
        if match:
            settings[match[1]] = match[2].strip()
    return settings


def parse_overrides(text: str) -> dict[tuple[str, str], str]:
    """Read what `postconf -P` prints: `service/type/parameter = value`."""
    overrides: dict[tuple[str, str], str] = {}
    for key, value in parse_settings(text).items():
        service, _, parameter = key.rpartition("/")
        if service and parameter:
            overrides[service, parameter] = value
    return overrides


def parse_version(text: str) -> Version | None:
    """Read a release such as `3.7.11` or `3.12-20260101`."""
    match = _VERSION.match(text)
    return (int(match[1]), int(match[2]), int(match[3] or 0)) if match else None


def smtp_services(services: tuple[str, ...]) -> dict[str, bool]:
    """The services that deliver by SMTP, as `name/type` -> whether they are chrooted."""
    found: dict[str, bool] = {}
    for line in services:
        columns = line.split()
        if len(columns) >= 8 and columns[7] == "smtp":  # noqa: PLR2004 - master(5)'s columns
            # Since 3.0 the default of the chroot column is `n`.
            found[f"{columns[0]}/{columns[1]}"] = columns[4] == "y"
    return found


def map_addresses(policy_maps: str) -> list[str]:
    """The addresses of the socketmaps in `smtp_tls_policy_maps`, without their map names."""
    tables = re.split(r"[\s,]+", policy_maps.replace("{", " ").replace("}", " "))
    addresses = [table.removeprefix("socketmap:") for table in tables if "socketmap:" in table]
    return [address.rpartition(":")[0] for address in addresses]


def expected_addresses(listener: ListenerConfig, queue: str, *, chrooted: bool) -> list[str]:
    """How main.cf may name a listener, the best way first; empty: out of Postfix's reach."""
    socket = listener.socket
    if isinstance(socket, InetSocket):
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(socket.host, socket.host)  # noqa: S104 - compared, not bound
        names = [f"inet:{format_host_port(host, socket.port)}"]
        return [*names, f"inet:localhost:{socket.port}"] if is_loopback(host) else names
    if not isinstance(socket, UnixSocket):
        return []
    inside = posixpath.relpath(socket.path, queue)
    if inside.startswith("../"):
        return [] if chrooted else [f"unix:{socket.path}"]
    # Postfix's daemons live in the queue directory: a relative path is right with and without
    # chroot.
    return [f"unix:{inside}", f"unix:/{inside}" if chrooted else f"unix:{socket.path}"]


def is_loopback(host: str) -> bool:
    """Whether `localhost` may stand for an address."""
    return host == "::1" or host.startswith("127.")


def judge_postfix(facts: PostfixFacts, listener: ListenerConfig) -> Iterator[Finding]:
    """Whether Postfix asks a listener, understands it and does what it says."""
    judges = (
        _judge_version,
        _judge_map,
        _judge_level,
        _judge_dane,
        _judge_insecure_mx,
        _judge_host_lookup,
        _judge_trust_store,
        _judge_reuse,
        _judge_patterns,
        _judge_overrides,
    )
    for judge in judges:
        yield from judge(facts, listener)


def _toml(listener: ListenerConfig, line: str) -> str:
    return f"strictmail.toml, listener {listener.name}: {line}"


def _judge_version(facts: PostfixFacts, listener: ListenerConfig) -> Iterator[Finding]:
    name, version, text = "postfix-dialect", facts.version, facts.get("mail_version")
    if version is None:
        yield unknown(name, "postconf does not tell Postfix's version")
    elif listener.dialect is Dialect.POSTFIX_TLSRPT and version < _TLSRPT_SINCE:
        yield fail(
            name,
            f"Postfix {text} does not know the attributes of the dialect postfix-tlsrpt and "
            "defers all mail that they are sent for",
            _toml(listener, 'dialect = "postfix"'),
        )
    elif listener.dialect is Dialect.POSTFIX and version >= _TLSRPT_SINCE:
        yield warn(
            name,
            f"Postfix {text} could report by TLSRPT, but the dialect postfix does not tell it "
            "the policies",
            _toml(listener, 'dialect = "postfix-tlsrpt"'),
        )
    else:
        yield ok(name, f"Postfix {text} understands the dialect {listener.dialect}")


def _judge_map(facts: PostfixFacts, listener: ListenerConfig) -> Iterator[Finding]:
    name = "postfix-map"
    queue = facts.get("queue_directory") or "/var/spool/postfix"
    chrooted = any(smtp_services(facts.services).values())
    expected = expected_addresses(listener, queue, chrooted=chrooted)
    found = map_addresses(facts.get("smtp_tls_policy_maps"))
    if not expected:
        inside = posixpath.join(queue, "strictmail", posixpath.basename(str(listener.socket)))
        yield fail(
            "postfix-chroot",
            f"Postfix's smtp service is chrooted to {queue} and cannot reach {listener.socket}"
            if isinstance(listener.socket, UnixSocket)
            else f"the path of {listener.socket} is known to systemd only; name it to Postfix",
            _toml(listener, f'socket = "unix:{inside}"'),
            'or: socket = "inet:127.0.0.1:8461"',
        )
    elif set(found) & set(expected):
        yield ok(name, f"Postfix asks {listener.socket}")
    else:
        before = facts.get("smtp_tls_policy_maps")
        line = f"socketmap:{expected[0]}:strictmail"
        yield fail(
            name,
            f"smtp_tls_policy_maps does not name {listener.socket}: Postfix does not ask it",
            "main.cf: smtp_tls_policy_maps = " + (f"{before} {line}" if before else line),
        )


def _judge_level(facts: PostfixFacts, listener: ListenerConfig) -> Iterator[Finding]:
    name, text = "postfix-level", facts.get("smtp_tls_security_level")
    level = _LEVELS.get(text)
    if level is None:
        yield unknown(name, f"smtp_tls_security_level = {text} is none that strictmail can judge")
    elif level is Level.NONE:
        yield warn(
            name,
            "smtp_tls_security_level is empty: mail to domains that demand nothing goes in clear "
            "text even where TLS is offered",
            f"main.cf: smtp_tls_security_level = {listener.default_level}",
        )
    elif level is not listener.default_level:
        yield warn(
            name,
            f"smtp_tls_security_level is {text}, but the listener's default_level is "
            f"{listener.default_level}: an answer may be weaker than Postfix's own default",
            _toml(listener, f'default_level = "{level}"'),
        )
    else:
        yield ok(name, f"smtp_tls_security_level and default_level are both {level}")


def _judge_dane(facts: PostfixFacts, listener: ListenerConfig) -> Iterator[Finding]:
    name = "postfix-dnssec"
    has = facts.get("smtp_dns_support_level") == "dnssec"
    if listener.dane and not has:
        yield fail(
            name,
            "the listener answers with DANE, but without DNSSEC support Postfix takes the level "
            "dane for may",
            "main.cf: smtp_dns_support_level = dnssec",
        )
    elif has and not listener.dane:
        yield warn(
            name,
            "Postfix can do DANE, but the listener does not use it",
            _toml(listener, "dane = true"),
        )
    else:
        yield ok(name, "both sides do DANE" if has else "neither side does DANE")


def _judge_insecure_mx(facts: PostfixFacts, listener: ListenerConfig) -> Iterator[Finding]:
    name, version = "postfix-insecure-mx", facts.version
    parameter = "smtp_tls_dane_insecure_mx_policy"
    if not listener.dane or version is None:
        return
    fix = f"main.cf: {parameter} = dane"
    if facts.get(parameter) == "dane":
        yield ok(name, f"{parameter} is dane")
    elif version < _TLSRPT_SINCE and version[2] < _FIXED_INSECURE_MX.get(version[:2], 1 << 30):
        yield fail(
            name,
            f"Postfix {facts.get('mail_version')} takes the level dane for may where the MX "
            f"records are not signed, unless {parameter} is set",
            fix,
        )
    elif parameter in facts.explicit:
        yield warn(
            name, f"{parameter} is set to something else than dane: less mail is verified", fix
        )
    else:
        yield ok(name, f"Postfix {facts.get('mail_version')} does DANE for unsigned MX records")


def _judge_host_lookup(facts: PostfixFacts, listener: ListenerConfig) -> Iterator[Finding]:
    name = "postfix-host-lookup"
    ways = re.split(r"[\s,]+", facts.get("smtp_host_lookup") or "dns")
    if ways[0] == "dns":
        yield ok(name, "Postfix looks hosts up in DNS")
        return
    judge = fail if listener.dane else warn
    yield judge(
        name,
        "Postfix looks hosts up elsewhere before DNS: such an address is never secure",
        "main.cf: smtp_host_lookup = dns",
    )


def _judge_trust_store(facts: PostfixFacts, _listener: ListenerConfig) -> Iterator[Finding]:
    name = "postfix-trust-store"
    file, path = facts.get("smtp_tls_CAfile"), facts.get("smtp_tls_CApath")
    fix = f"main.cf: smtp_tls_CAfile = {CA_FILE}"
    if not file and not path and facts.get("tls_append_default_CA") != "yes":
        yield fail(
            name,
            "Postfix trusts no certification authority: mail to every domain whose policy "
            "enforces is deferred",
            fix,
        )
    elif file and file not in facts.existing_files:
        yield fail(name, f"smtp_tls_CAfile = {file} is not there", fix)
    elif path and not file and any(smtp_services(facts.services).values()):
        yield warn(
            name,
            "smtp_tls_CApath alone does not work in a chroot unless it is copied there",
            fix,
        )
    else:
        yield ok(name, f"Postfix verifies against {file or path or 'the defaults of OpenSSL'}")


def _judge_reuse(facts: PostfixFacts, listener: ListenerConfig) -> Iterator[Finding]:
    name = "postfix-connection-reuse"
    if facts.get("smtp_tls_connection_reuse") == "yes":
        if listener.dialect is Dialect.POSTFIX_TLSRPT:
            yield warn(
                name,
                "with TLS connection reuse, Postfix ignores why a policy could not be learnt: "
                "those failures are missing from its reports (enforcement is not touched)",
                "main.cf: smtp_tls_connection_reuse = no",
            )
        else:
            yield ok(name, "TLS connections are reused, per TLS policy")
    else:
        yield ok(name, "TLS connections are not reused")


def _judge_patterns(facts: PostfixFacts, listener: ListenerConfig) -> Iterator[Finding]:
    parameter = "smtp_tls_enforce_sts_mx_patterns"
    if listener.dialect is Dialect.POSTFIX_TLSRPT and facts.get(parameter) == "no":
        yield warn(
            "postfix-mx-patterns",
            f"{parameter} is no: Postfix does not check MX names against the policy again",
            f"main.cf: {parameter} = yes",
        )


def _judge_overrides(facts: PostfixFacts, _listener: ListenerConfig) -> Iterator[Finding]:
    services = smtp_services(facts.services)
    for (service, parameter), value in sorted(facts.overrides.items()):
        if service in services and parameter in PARAMETERS:
            yield warn(
                "postfix-override",
                f"master.cf sets {parameter} = {value} for {service}, whatever main.cf says",
                f"see that it is meant: postconf -P {service}/{parameter}",
            )
