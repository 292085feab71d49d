# SPDX-License-Identifier: Apache-2.0
"""Judging what Postfix and the kernel need for complete session counts. Pure.

`strictmail.cli.doctor` gathers the facts.
"""

from __future__ import annotations

import posixpath
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from strictmail.core.decision import TestingStance
from strictmail.runtime.addresses import UnixSocket
from strictmail.runtime.health import fail, ok, unknown, warn
from strictmail.runtime.options import Dialect
from strictmail.runtime.postconf import smtp_services

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from strictmail.runtime.config import Config
    from strictmail.runtime.health import Finding
    from strictmail.runtime.options_collector import CollectorConfig
    from strictmail.runtime.postconf import PostfixFacts

MIN_QUEUE: Final = 128
"""Datagrams that a busy Postfix sends while a drainer is not on the processor; the kernel's own
default, 10, is reached within milliseconds."""

GOOD_QUEUE: Final = 512

TLSRPT_SINCE: Final = (3, 10, 0)

QUEUE_SETTING: Final = "net.unix.max_dgram_qlen"


@dataclass(frozen=True, slots=True)
class SocketFacts:
    """A collector's socket in the file system; `mode` None: not there, or not to be looked at.

    Attributes:
        path: Where; "" for one that only systemd knows.
        mode: Its rights.
        gid: Its group.
        uid: Its owner.
        postfix_gids: The groups that Postfix's user is in; None: there is no such user.
        postfix_uid: That user.
    """

    path: str
    mode: int | None = None
    gid: int = 0
    uid: int = 0
    postfix_gids: frozenset[int] | None = None
    postfix_uid: int = -1


@dataclass(frozen=True, slots=True)
class CollectorFacts:
    """Everything; None where it could not be looked at.

    Attributes:
        queue_length: net.unix.max_dgram_qlen.
        sockets: Of each collector, in the order of the configuration.
        unverified: Sessions of the last days whose success under a testing policy nobody verified.
        late: Sessions of the last days that were told when their report had been made.
    """

    queue_length: int | None
    sockets: Sequence[SocketFacts]
    unverified: int | None = None
    late: int | None = None


def judge_collectors(
    facts: CollectorFacts, config: Config, postfix: PostfixFacts | None
) -> Iterator[Finding]:
    """Whether sessions are told, all of them, and what they prove."""
    if config.collectors:
        yield from _judge_queue(facts)
        for collector, found in zip(config.collectors, facts.sockets, strict=True):
            yield from _judge_socket(collector, found)
    if postfix is not None:
        yield from _judge_postfix(config, postfix)
    yield from _judge_testing(facts, config, postfix)
    if facts.late:
        yield warn(
            "late-sessions",
            f"{facts.late} sessions of late were told after the report of their day was made, and "
            "are in none",
            "give `strictmail report import-log` the log before 00:05 UTC, or use --follow",
        )


def _judge_queue(facts: CollectorFacts) -> Iterator[Finding]:
    name, length = "dgram-queue", facts.queue_length
    if length is None:
        yield unknown(name, f"the kernel does not say {QUEUE_SETTING}")
    elif length < MIN_QUEUE:
        yield warn(
            name,
            f"{QUEUE_SETTING} is {length}: so many datagrams wait for the collector, and what "
            "Postfix sends beyond them is lost",
            f"echo '{QUEUE_SETTING} = {GOOD_QUEUE}' > /etc/sysctl.d/60-strictmail.conf",
            f"sysctl -w {QUEUE_SETTING}={GOOD_QUEUE}",
            "then restart what holds the socket: a socket keeps the length it was made with",
        )
    else:
        yield ok(name, f"{QUEUE_SETTING} is {length}")


def _judge_socket(collector: CollectorConfig, found: SocketFacts) -> Iterator[Finding]:
    name = f"tlsrpt-socket:{collector.name}"
    if not found.path:
        yield unknown(name, f"where {collector.socket} is, only systemd knows")
    elif found.mode is None:
        yield fail(
            name,
            f"there is no socket at {found.path}: what Postfix tells is lost",
            "systemctl start strictmail",
        )
    elif not stat.S_ISSOCK(found.mode):
        yield fail(name, f"{found.path} is no socket", f"rm {found.path}", "restart strictmail")
    elif found.postfix_gids is None:
        yield unknown(name, "there is no user postfix here: who may write is not known")
    elif not _may_write(found):
        yield fail(
            name,
            f"the user postfix may not write to {found.path}",
            f'strictmail.toml, collector {collector.name}: group = "postfix", mode = "0660"',
            "or, with the socket unit: SocketGroup=postfix, SocketMode=0660",
        )
    elif found.mode & stat.S_IWOTH:
        yield warn(
            name,
            f"everybody may write to {found.path}, and so put anything into your reports",
            f'strictmail.toml, collector {collector.name}: mode = "0660"',
        )
    else:
        yield ok(name, f"Postfix may write to {found.path}")


def _may_write(found: SocketFacts) -> bool:
    assert found.mode is not None
    assert found.postfix_gids is not None
    if found.uid == found.postfix_uid:
        return bool(found.mode & stat.S_IWUSR)
    if found.gid in found.postfix_gids:
        return bool(found.mode & stat.S_IWGRP)
    return bool(found.mode & stat.S_IWOTH)


def _judge_postfix(config: Config, facts: PostfixFacts) -> Iterator[Finding]:
    name, version = "postfix-tlsrpt", facts.version
    text = facts.get("mail_version")
    wants = bool(config.collectors)
    if version is None:
        return
    if version < TLSRPT_SINCE:
        if wants:
            yield warn(
                name,
                f"Postfix {text} sends no datagrams: only its log tells of its sessions",
                "strictmail report import-log --follow /var/log/mail.log (docs/report-collect.md)",
            )
        yield from _judge_log_level(config, facts)
        return
    if not wants:
        if "collector" in config.roles or "reporter" in config.roles:
            yield warn(
                name,
                f"Postfix {text} could tell of its sessions, but there is no [[collector]]",
                "strictmail.toml: [[collector]]",
            )
        return
    if facts.get("smtp_tlsrpt_enable") != "yes":
        yield fail(
            name,
            "smtp_tlsrpt_enable is not yes: Postfix tells nobody of its sessions",
            "main.cf: smtp_tlsrpt_enable = yes",
        )
        return
    yield from _judge_socket_name(config, facts)
    if facts.get("smtp_tlsrpt_skip_reused_handshakes") == "yes":
        yield warn(
            "postfix-tlsrpt-reused",
            "smtp_tlsrpt_skip_reused_handshakes is yes: sessions that resume an earlier TLS session "
            "are missing from the counts",
            "main.cf: smtp_tlsrpt_skip_reused_handshakes = no",
        )
    if all(listener.dialect is not Dialect.POSTFIX_TLSRPT for listener in config.listeners):
        yield warn(
            "postfix-tlsrpt-dialect",
            "no listener speaks postfix-tlsrpt: Postfix does not learn which policy it follows, "
            "and tells of all sessions as without one",
            'strictmail.toml, [[listener]]: dialect = "postfix-tlsrpt"',
        )


def _judge_socket_name(config: Config, facts: PostfixFacts) -> Iterator[Finding]:
    name = "postfix-tlsrpt-socket"
    queue = facts.get("queue_directory") or "/var/spool/postfix"
    given = facts.get("smtp_tlsrpt_socket_name")
    chrooted = any(smtp_services(facts.services).values())
    paths = [one.socket.path for one in config.collectors if isinstance(one.socket, UnixSocket)]
    if not paths:
        yield unknown(name, "where the collectors' sockets are, only systemd knows")
        return
    # Postfix's daemons live in the queue directory, which is the root of its chroot.
    seen = {posixpath.join(queue, given)}
    if chrooted:
        seen = {posixpath.normpath(f"{queue}/{given}")}
    inside = posixpath.relpath(paths[0], queue)
    if given and seen & set(paths):
        yield ok(name, f"Postfix sends to {given}")
    elif chrooted and inside.startswith("../"):
        yield fail(
            name,
            f"Postfix's smtp service is chrooted to {queue} and cannot reach {paths[0]}",
            f'strictmail.toml, [[collector]]: socket = "unix:{queue}/strictmail/tlsrpt"',
            "main.cf: smtp_tlsrpt_socket_name = strictmail/tlsrpt",
        )
    else:
        right = paths[0] if inside.startswith("../") else inside
        yield fail(
            name,
            f"smtp_tlsrpt_socket_name ({given or 'empty'}) is not the socket of a collector",
            f"main.cf: smtp_tlsrpt_socket_name = {right}",
        )


def _judge_log_level(config: Config, facts: PostfixFacts) -> Iterator[Finding]:
    if not {"collector", "reporter"} & set(config.roles):
        return
    if facts.get("smtp_tls_loglevel") in ("", "0"):
        yield warn(
            "postfix-tls-log",
            "smtp_tls_loglevel is 0: Postfix's log proves no sessions",
            "main.cf: smtp_tls_loglevel = 1",
        )


def _judge_testing(
    facts: CollectorFacts, config: Config, postfix: PostfixFacts | None
) -> Iterator[Finding]:
    """How to get true data about policies in testing mode."""
    name = "testing-data"
    seen = (
        f"; {facts.unverified} sessions of late were verified by nobody" if facts.unverified else ""
    )
    probe = (
        "strictmail.toml: [reporter] probe_testing = true, to visit the MX hosts of such domains and "
        "report what no MTA verifies"
    )
    wants_probes = config.reporter.probe_testing
    has_probes = wants_probes and "reporter" in config.roles
    advice = () if has_probes else (_say_missing(config),) if wants_probes else (probe,)
    idle = f"probe_testing is set, but no reporter runs that could probe{seen}"
    if not config.collectors or postfix is None or (postfix.version or (0,)) < TLSRPT_SINCE:
        # A log, or other MTAs, may tell of such sessions as well.
        if wants_probes and not has_probes:
            yield warn(name, idle, *advice)
        elif facts.unverified and advice:
            yield warn(
                name,
                f"{facts.unverified} sessions of late under policies in testing mode were verified "
                "by nobody, and are in no report",
                *advice,
            )
        return
    if config.decision.testing is TestingStance.SILENT:
        yield warn(
            name,
            "sessions to domains whose policy is in testing mode are told as without a policy: "
            "their owners do not learn how their policy fares",
            'strictmail.toml: [decision] testing = "annotate"',
            "main.cf: smtp_tls_loglevel = summary, untrusted",
            *advice,
        )
    elif has_probes:
        yield ok(
            name, f"what Postfix does not verify under policies in testing mode is probed{seen}"
        )
    elif wants_probes:
        yield warn(name, idle, *advice)
    elif "untrusted" not in postfix.get("smtp_tls_loglevel"):
        yield warn(
            name,
            "under a policy in testing mode Postfix looks at no certificate, and nothing is "
            f"reported{seen}",
            "main.cf: smtp_tls_loglevel = summary, untrusted",
            *advice,
        )
    elif facts.unverified:
        yield warn(
            name,
            "broken certificate chains under policies in testing mode are reported, what Postfix "
            f"takes for good is not{seen}",
            *advice,
        )
    else:
        yield ok(name, "broken certificate chains under policies in testing mode are reported")


def _say_missing(config: Config) -> str:
    """Why there is no reporter."""
    if not config.reporter.contact:
        return "strictmail.toml: [reporter] contact: without one, nothing is probed or reported"
    return 'strictmail.toml: "reporter" in roles'
