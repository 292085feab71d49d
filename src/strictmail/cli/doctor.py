# SPDX-License-Identifier: Apache-2.0
"""`strictmail doctor`: gather facts about this machine and say what does not fit, with the fix."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from strictmail.cli.configured import configured
from strictmail.cli.doctor_collect import check_collectors
from strictmail.cli.doctor_reports import check_reports
from strictmail.cli.exitcodes import ExitCode
from strictmail.core.dnsvalues import RecordType
from strictmail.core.errors import StrictmailError, UnreachableError
from strictmail.runtime import health, postconf
from strictmail.runtime.addresses import InetSocket, SystemdSocket
from strictmail.runtime.options import Dialect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from strictmail.core.sts.values import FetchedPolicy, FetchFailure
    from strictmail.runtime.config import Config, ListenerConfig
    from strictmail.runtime.health import Finding

POSTCONF_SECONDS: Final = 10
NETWORK_SECONDS: Final = 30.0
LISTENER_KEY: Final = ".doctor.invalid"
"""Dot-keys are answered at once, without DNS."""

_TIME_ERROR: Final = 5
_TIMEX_BYTES: Final = 1024
_MARKS: Final = {"ok": "ok  ", "warn": "WARN", "fail": "FAIL", "unknown": "?   "}


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--offline", is_flag=True, help="Ask neither DNS nor a policy host.")
@click.option(
    "--signed-name",
    default="iana.org",
    show_default=True,
    help="A name in a signed zone; its SOA record is asked for.",
)
@click.option(
    "--bogus-name",
    default="dnssec-failed.org",
    show_default=True,
    help="A name whose signatures are wrong; its address is asked for.",
)
@click.option(
    "--policy-domain",
    default="gmail.com",
    show_default=True,
    help="A domain with an MTA-STS policy, to see whether policy hosts can be reached.",
)
@click.option(
    "--postconf",
    "postconf_command",
    default="postconf",
    show_default=True,
    help="Postfix's postconf command.",
)
@configured
def command(
    config: Config,
    *,
    as_json: bool,
    offline: bool,
    signed_name: str,
    bogus_name: str,
    policy_domain: str,
    postconf_command: str,
) -> int:
    """Check this machine: resolver, MTA, clock, file rights, sockets, way out.

    Exits with 1 when something fails, else with 0: warnings, and what could not be looked at, are
    shown only.
    """
    findings = [
        *_check_network(
            config, offline=offline, names=(signed_name, bogus_name), domain=policy_domain
        ),
        *health.judge_clock(clock_facts()),
        *_check_files(config),
        *_check_listeners(config),
        *_check_postfix(config, postconf_command),
        *check_collectors(config, postconf_command),
        *check_reports(config, offline=offline),
    ]
    if as_json:
        print(json.dumps(_document(findings), indent=2))
    else:
        for line in report_lines(findings):
            print(line)
    return ExitCode.FAILURE if health.worst(findings) is health.Health.FAIL else ExitCode.OK


def report_lines(findings: list[Finding]) -> Iterator[str]:
    """The findings for people."""
    from strictmail.runtime.logs import escape

    width = max(len(finding.id) for finding in findings)
    for finding in findings:
        sentence = escape(finding.sentence, limit=1000)
        yield f"{_MARKS[finding.health]}  {finding.id:<{width}}  {sentence}"
        for line in finding.fix:
            yield f"{'':{width + 8}}> {escape(line, limit=1000)}"
    counts = {kind: sum(f.health is kind for f in findings) for kind in health.Health}
    yield ""
    yield (
        f"{counts[health.Health.FAIL]} failed, {counts[health.Health.WARN]} warnings, "
        f"{counts[health.Health.OK]} good, {counts[health.Health.UNKNOWN]} could not be looked at"
    )


def _document(findings: list[Finding]) -> dict[str, object]:
    return {"health": health.worst(findings), "findings": [asdict(finding) for finding in findings]}


# ---- network ------------------------------------------------------------------------------------


def _check_network(
    config: Config, *, offline: bool, names: tuple[str, str], domain: str
) -> list[Finding]:
    if offline:
        nothing = health.DnsFacts((), on_loopback=False, signed=None, bogus=None)
        dns = [f for f in health.judge_dns(nothing, config) if f.health is health.Health.UNKNOWN]
        return [*dns, health.judge_fetch(domain, None)]
    try:
        return asyncio.run(_look_around(config, names, domain))
    except (TimeoutError, OSError, StrictmailError) as error:
        return [
            health.unknown("dns-validates", f"DNS could not be asked: {str(error) or 'timeout'}")
        ]


async def _look_around(config: Config, names: tuple[str, str], domain: str) -> list[Finding]:
    """Ask the name servers and a policy host, as the daemon would."""
    from strictmail.cli.composition import build_fetcher
    from strictmail.net.dns import DnsResolver, is_loopback, system_servers

    servers = tuple(config.dns.servers or system_servers())
    resolver = DnsResolver(
        servers,
        timeout=config.dns.timeout.total_seconds(),
        attempts=config.dns.attempts,
        trust_ad=True,  # to see it; whether it may be believed is judged apart
        rng=random.SystemRandom(),
    )
    await resolver.start()
    try:
        async with asyncio.timeout(NETWORK_SECONDS):
            signed, bogus = await asyncio.gather(
                resolver.lookup(names[0], RecordType.SOA), resolver.lookup(names[1], RecordType.A)
            )
            facts = health.DnsFacts(
                servers,
                on_loopback=bool(servers) and all(is_loopback(host) for host, _ in servers),
                signed=signed,
                bogus=bogus,
            )
            outcome: FetchedPolicy | FetchFailure | None = None
            if signed.status.is_answer:
                with contextlib.suppress(TimeoutError):
                    outcome = await build_fetcher(config, resolver).fetch(domain)
    finally:
        await resolver.close()
    return [*health.judge_dns(facts, config), health.judge_fetch(domain, outcome)]


# ---- clock and files ----------------------------------------------------------------------------


def clock_facts() -> health.ClockFacts:
    """The clock, and how old this installation surely is."""
    installed = Path(__file__).stat().st_mtime
    return health.ClockFacts(
        datetime.now(UTC), datetime.fromtimestamp(installed, UTC), _kernel_synchronised()
    )


def _kernel_synchronised() -> bool | None:
    """What adjtimex(2) says, whichever service keeps the time."""
    import ctypes

    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _TIME_ERROR


def file_facts(path: str) -> health.FileFacts:
    """Rights, owner and free space."""
    try:
        status = Path(path).stat()
        free = os.statvfs(path)
    except OSError:
        return health.FileFacts(path, None)
    return health.FileFacts(path, status.st_mode, status.st_uid, free.f_bavail * free.f_frsize)


def _check_files(config: Config) -> list[Finding]:
    return list(
        health.judge_files(
            file_facts(config.state_directory),
            file_facts(config.policies_path),
            file_facts(config.path) if config.path else None,
        )
    )


# ---- the daemon ---------------------------------------------------------------------------------


def _check_listeners(config: Config) -> Iterator[Finding]:
    for listener in config.listeners:
        yield from health.judge_listener(_ask_listener(listener))


def _ask_listener(listener: ListenerConfig) -> health.ListenerFacts:
    from strictmail.cli.query import ask

    reply, error = None, ""
    if not isinstance(listener.socket, SystemdSocket):
        address = listener.socket
        if isinstance(address, InetSocket):
            # Who listens everywhere listens here too.
            here = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound
            address = InetSocket(here.get(address.host, address.host), address.port)
        try:
            reply = ask(address, "strictmail", LISTENER_KEY)
        except UnreachableError as unreachable:
            error = str(unreachable).removeprefix(f"{address}: ").partition(";")[0]
    return health.ListenerFacts(listener.name, listener.socket, listener.observe, reply, error)


# ---- Postfix ------------------------------------------------------------------------------------


def _check_postfix(config: Config, command_name: str) -> Iterator[Finding]:
    listeners = [
        listener
        for listener in config.listeners
        if listener.dialect in (Dialect.POSTFIX, Dialect.POSTFIX_TLSRPT)
    ]
    if not listeners:
        yield health.unknown("postfix", "no listener speaks to Postfix; other MTAs are not judged")
        return
    path = shutil.which(command_name)
    if path is None:
        yield health.unknown(
            "postfix", f"there is no {command_name} here: Postfix's settings were not looked at"
        )
        return
    try:
        facts = postfix_facts(path)
    except (OSError, subprocess.SubprocessError) as error:
        yield health.unknown("postfix", f"{path} failed: {error}")
        return
    yield from postconf.judge_postfix(facts, choose_listener(facts, listeners))


def choose_listener(
    facts: postconf.PostfixFacts, listeners: list[ListenerConfig]
) -> ListenerConfig:
    """The listener that Postfix asks, or else the first."""
    asked = postconf.map_addresses(facts.get("smtp_tls_policy_maps"))
    queue = facts.get("queue_directory")
    for listener in listeners:
        for chrooted in (False, True):
            names = postconf.expected_addresses(listener, queue or "/", chrooted=chrooted)
            if set(names) & set(asked):
                return listener
    return listeners[0]


def postfix_facts(path: str) -> postconf.PostfixFacts:
    """Run postconf.

    Raises:
        OSError: It cannot be run.
        subprocess.SubprocessError: It hangs or fails.
    """
    settings = postconf.parse_settings(_run(path, "-x", *postconf.PARAMETERS))
    files = {settings.get("smtp_tls_CAfile", "")}
    return postconf.PostfixFacts(
        settings=settings,
        explicit=frozenset(postconf.parse_settings(_run(path, "-n"))),
        services=tuple(_run(path, "-M").splitlines()),
        overrides=postconf.parse_overrides(_run(path, "-P")),
        existing_files=frozenset(file for file in files if file and Path(file).exists()),
    )


def _run(path: str, *arguments: str) -> str:
    done = subprocess.run(  # noqa: S603 - the operator's own postconf, arguments are ours
        [path, *arguments],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=POSTCONF_SECONDS,
        check=True,
    )
    return done.stdout
