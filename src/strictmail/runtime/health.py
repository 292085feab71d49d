# SPDX-License-Identifier: Apache-2.0
"""Judging the machine that strictmail runs on: facts in, findings out. Pure.

Whoever gathers the facts is `strictmail.cli.doctor`. What could not be looked at is UNKNOWN, never
a failure (design decision 4).
"""

from __future__ import annotations

import enum
import stat
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from strictmail.core.dnsvalues import Status
from strictmail.core.sts.values import FetchFailure
from strictmail.runtime.addresses import InetSocket
from strictmail.runtime.options import TrustAd

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from strictmail.core.dnsvalues import Answer
    from strictmail.core.sts.values import FetchedPolicy
    from strictmail.runtime.addresses import SocketAddress
    from strictmail.runtime.config import Config

MIN_FREE_BYTES: Final = 100 * 1024 * 1024
"""A million cached policies take some hundred MiB; below this a full disk is near."""

CLOCK_TOLERANCE: Final = timedelta(days=1)
"""File times are local to other machines' clocks and zones; a day is none of a clock's faults."""


class Health(enum.StrEnum):
    """How a finding is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        id: Stable; of the listener's check with the listener's name behind a colon.
        health: How it is.
        sentence: What was seen and what it means.
        fix: Lines to do or to write; empty when there is nothing to do.
    """

    id: str
    health: Health
    sentence: str
    fix: tuple[str, ...] = ()


def ok(name: str, sentence: str) -> Finding:
    """A finding that is good."""
    return Finding(name, Health.OK, sentence)


def warn(name: str, sentence: str, *fix: str) -> Finding:
    """A finding that weakens something or will."""
    return Finding(name, Health.WARN, sentence, fix)


def fail(name: str, sentence: str, *fix: str) -> Finding:
    """A finding that stops mail or loses protection."""
    return Finding(name, Health.FAIL, sentence, fix)


def unknown(name: str, sentence: str) -> Finding:
    """Something that could not be looked at."""
    return Finding(name, Health.UNKNOWN, sentence)


# ---- DNS ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DnsFacts:
    """What the name servers answered.

    Attributes:
        servers: As asked.
        on_loopback: All of them are on this machine.
        signed: The answer for a name that is signed, taken with its AD bit as it came.
        bogus: The answer for a name whose signatures are wrong.
    """

    servers: Sequence[tuple[str, int]]
    on_loopback: bool
    signed: Answer | None
    bogus: Answer | None


_UNBOUND: Final = (
    "install a validating resolver on this machine (apt install unbound) and let",
    "/etc/resolv.conf say: nameserver 127.0.0.1",
)


def judge_dns(facts: DnsFacts, config: Config) -> Iterator[Finding]:
    """Whether the resolver validates, and whether it is believed."""
    wants_dane = any(listener.dane for listener in config.listeners)
    weak = fail if wants_dane else warn
    signed = facts.signed
    if signed is None or not signed.status.is_answer:
        why = f": {signed.detail or signed.status.value}" if signed is not None else ""
        yield unknown("dns-validates", f"no name server answered{why}")
    elif signed.status is Status.NXDOMAIN and not signed.secure:
        yield unknown(
            "dns-validates",
            f"the name servers do not know the signed name {signed.name or '.'}: is this machine "
            "cut off from the internet?",
        )
    elif signed.secure:
        yield ok("dns-validates", "the name servers answer with the AD bit for signed names")
    else:
        yield weak(
            "dns-validates",
            f"the answer for the signed name {signed.name or '.'} has no AD bit: "
            "the name servers do not validate, and DANE is off",
            *_UNBOUND,
        )
    yield _judge_bogus(facts.bogus)
    yield _judge_trust(facts, config, wants_dane=wants_dane)


def _judge_bogus(bogus: Answer | None) -> Finding:
    if bogus is None or bogus.status is Status.TIMEOUT:
        return unknown("dns-bogus", "whether bogus names are refused could not be looked at")
    if bogus.status in (Status.BOGUS, Status.SERVFAIL):
        return ok("dns-bogus", f"the bogus name {bogus.name} is refused")
    if bogus.status is Status.OK:
        return fail(
            "dns-bogus",
            f"the name {bogus.name}, whose signatures are wrong, was answered: "
            "the name servers do not validate",
            *_UNBOUND,
        )
    return unknown("dns-bogus", f"{bogus.name} ended in {bogus.status.value}")


def _judge_trust(facts: DnsFacts, config: Config, *, wants_dane: bool) -> Finding:
    name = "dns-trust"
    servers = ", ".join(host for host, _ in facts.servers) or "none"
    trust = config.dns.trust_ad
    if trust is TrustAd.ALWAYS and not facts.on_loopback:
        return warn(
            name,
            f"dns.trust_ad is always, and the name servers ({servers}) are not on this machine: "
            "whoever can change packets on the way decides what is secure",
            'strictmail.toml: [dns] trust_ad = "loopback", with a resolver on this machine',
        )
    if trust is TrustAd.ALWAYS or (trust is TrustAd.LOOPBACK and facts.on_loopback):
        return ok(name, f"the AD bit of {servers} is believed")
    weak = fail if wants_dane else warn
    if trust is TrustAd.NEVER:
        return weak(
            name,
            "dns.trust_ad is never: DANE is off",
            'strictmail.toml: [dns] trust_ad = "loopback"',
        )
    return weak(
        name,
        f"the name servers ({servers}) are not on this machine, so their AD bit is not believed: "
        "DANE is off",
        *_UNBOUND,
    )


# ---- clock --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClockFacts:
    """What is known of the time.

    Attributes:
        now: The wall clock.
        not_before: The newest instant that is surely past, such as when strictmail was installed.
        is_synchronised: What the kernel says; None: it does not say.
    """

    now: datetime
    not_before: datetime
    is_synchronised: bool | None


def judge_clock(facts: ClockFacts) -> Iterator[Finding]:
    """Whether expiry and certificates can be judged (SEC-37)."""
    fix = ("install a time service (apt install systemd-timesyncd, or chrony)",)
    if facts.now + CLOCK_TOLERANCE < facts.not_before:
        yield fail(
            "clock",
            f"the clock says {facts.now:%Y-%m-%d}, but files here are from "
            f"{facts.not_before:%Y-%m-%d}: certificates are refused and policies live too long",
            *fix,
        )
    else:
        yield ok("clock", f"the clock says {facts.now:%Y-%m-%d %H:%M} UTC")
    if facts.is_synchronised is None:
        yield unknown("clock-sync", "the kernel does not say whether the clock is synchronised")
    elif facts.is_synchronised:
        yield ok("clock-sync", "the clock is synchronised")
    else:
        yield warn("clock-sync", "nothing keeps the clock right", *fix)


# ---- files --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A file or directory; `mode` is None when it is not there or cannot be looked at."""

    path: str
    mode: int | None
    uid: int = 0
    free_bytes: int | None = None


def judge_files(
    state: FileFacts, store: FileFacts, config_file: FileFacts | None
) -> Iterator[Finding]:
    """Rights of the state directory, its store and the configuration."""
    name = "state-directory"
    if state.mode is None:
        yield warn(
            name,
            f"{state.path} is not there; the daemon makes it if it may",
            f"install -d -o strictmail -g strictmail -m 0750 {state.path}",
        )
    elif state.mode & stat.S_IWOTH:
        yield fail(
            name,
            f"everybody may write in {state.path}: any user could replace the policies",
            f"chmod o-w {state.path}",
        )
    elif store.mode is not None and store.uid != state.uid:
        yield warn(
            name,
            f"{store.path} and its directory have different owners: the daemon may be unable to "
            "write one of them",
            f"chown --reference={state.path} {store.path}*",
        )
    else:
        yield ok(name, f"{state.path} is nobody else's to write")
    if state.free_bytes is not None and state.free_bytes < MIN_FREE_BYTES:
        yield warn(
            "disk-space",
            f"{state.free_bytes // 1024**2} MiB are left for {state.path}; on a full disk, what is "
            "learnt is lost at a restart",
            "make room",
        )
    if config_file is not None and config_file.mode is not None:
        if config_file.mode & stat.S_IWOTH:
            yield fail(
                "config-file",
                f"everybody may write {config_file.path}",
                f"chmod o-w {config_file.path}",
            )
        else:
            yield ok("config-file", f"{config_file.path} is nobody else's to write")


# ---- the daemon and the way out -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ListenerFacts:
    """What a listener answered to a question that costs nothing; `reply` None: not asked."""

    name: str
    socket: SocketAddress
    observe: bool
    reply: str | None
    error: str = ""


def judge_listener(facts: ListenerFacts) -> Iterator[Finding]:
    """Whether the daemon answers there, and who can ask."""
    name = f"listener-answers:{facts.name}"
    if facts.error:
        yield fail(
            name,
            f"nobody answers at {facts.socket} ({facts.error}): an MTA that asks there defers "
            "all its mail",
            "systemctl start strictmail",
        )
    elif facts.reply is None:
        yield unknown(name, f"where {facts.socket} is, only systemd knows")
    elif facts.reply.startswith("NOTFOUND"):
        yield ok(name, f"the daemon answers at {facts.socket}")
    else:
        yield fail(name, f"something answers at {facts.socket}, but not strictmail")
    if facts.observe:
        yield warn(
            f"listener-observes:{facts.name}",
            "it only observes: nothing is enforced",
            f"strictmail.toml, listener {facts.name}: observe = false",
        )
    if isinstance(facts.socket, InetSocket) and not is_loopback_text(facts.socket.host):
        yield warn(
            f"listener-exposed:{facts.name}",
            f"everybody who reaches {facts.socket} can ask it, and makes it ask DNS and HTTPS",
            f"listen on 127.0.0.1, or let a firewall guard port {facts.socket.port}",
        )


def is_loopback_text(host: str) -> bool:
    """Whether an address is this machine's own."""
    import ipaddress

    return ipaddress.ip_address(host).is_loopback


def judge_fetch(domain: str, outcome: FetchedPolicy | FetchFailure | None) -> Finding:
    """Whether a policy host out there can be reached."""
    name = "policy-fetch"
    if outcome is None:
        return unknown(name, f"the policy of {domain} was not asked for")
    if not isinstance(outcome, FetchFailure):
        return ok(name, f"the policy of {domain} can be fetched (mode {outcome.policy.mode})")
    if outcome.reason_code == "dns":
        return unknown(name, f"the policy host of {domain} has no address here: {outcome.reason}")
    return warn(
        name,
        f"the policy of {domain} cannot be fetched: {outcome.reason}",
        "let this machine open TCP connections to port 443 of everybody;",
        "if a proxy opens TLS on the way, its authority has to be in policy.ca_file",
    )


def worst(findings: Sequence[Finding]) -> Health:
    """FAIL before WARN before OK; UNKNOWN counts as nothing."""
    found = {finding.health for finding in findings}
    return next((h for h in (Health.FAIL, Health.WARN) if h in found), Health.OK)
