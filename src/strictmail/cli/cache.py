# SPDX-License-Identifier: Apache-2.0
"""`strictmail cache`: look at the cached policies, refresh, remove, export and import them.

Reads and writes the store of the state directory, beside a running daemon or without one; what
it changes there, it tells the daemon.
"""

from __future__ import annotations

import json
import random
import sys
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, BinaryIO, Final

import click

from strictmail.cli.configured import configured
from strictmail.cli.exitcodes import ExitCode
from strictmail.cli.printing import DURATION, instant, printable, span, table
from strictmail.core.errors import StoreUnavailableError, UnreachableError
from strictmail.core.sts.lifecycle import is_expired
from strictmail.core.sts.values import Mode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from strictmail.core.sts.lifecycle import PolicyEntry
    from strictmail.runtime.config import Config
    from strictmail.store.policies import SqlitePolicyStore

PAGE_SIZE: Final = 1000
"""Entries read at a time: the table of a million is not built in memory."""

TAKE_SECONDS: Final = 10.0
"""A running daemon looks for requests every second or so; after this long there is none."""

POLL_SECONDS: Final = 0.1


def open_store(config: Config, *, create: bool = False) -> SqlitePolicyStore:
    """Open the policy store of a configuration, as a process beside the daemon.

    Raises:
        StoreUnavailableError: There is none (and `create` is not set), or it cannot be used.
        SchemaTooNewError: A newer strictmail wrote it.
    """
    from strictmail.store.policies import SqlitePolicyStore

    return SqlitePolicyStore(config.policies_path, create=create, announces=True)


def now_utc() -> datetime:
    """The wall clock."""
    from strictmail.runtime.clock import SystemClock

    return SystemClock().now()


def policy_domains(texts: Iterable[str]) -> list[str]:
    """Domains as typed, in the form of the cache's keys, each once.

    Raises:
        DomainSyntaxError: One of them is no domain name.
    """
    from strictmail.core.names import parse_domain

    return list(dict.fromkeys(parse_domain(text) for text in texts))


@click.group(name="cache")
def command() -> None:
    """Look at the cached policies, refresh or remove them."""


# ---- list, show, failing, stats ---------------------------------------------------------


@command.command(name="list")
@click.option("--mode", type=click.Choice([mode.value for mode in Mode]), help="Only this mode.")
@click.option(
    "--expiring-within",
    type=DURATION,
    metavar="DURATION",
    help='Only policies that expire within, say, "2d", and those that have expired.',
)
@click.option(
    "--limit", type=click.IntRange(min=0), default=PAGE_SIZE, show_default=True, help="0: all."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@configured
def list_(
    config: Config,
    *,
    mode: str | None,
    expiring_within: timedelta | None,
    limit: int,
    as_json: bool,
) -> None:
    """List cached policies in order of domain."""
    now = now_utc()
    before = now + expiring_within if expiring_within is not None else None
    with closing(open_store(config)) as store:
        number = -1
        pages = _pages(store, Mode(mode) if mode else None, before, limit)
        for number, page in enumerate(pages):
            if as_json:
                for entry in page:
                    print(json.dumps(describe_entry(entry, now)))
            else:
                headers = ("DOMAIN", "MODE", "EXPIRES IN", "FETCHED", "ID", "STATE", "MX")
                lines = list(table(headers, (_list_row(entry, now) for entry in page)))
                print("\n".join(lines[1:] if number else lines))
        total = store.count()
    if number < 0 and not as_json:
        print("no cached policy fits" if total else "no policy is cached")
    if limit and total > limit and mode is None and before is None:
        print(f"{limit} of {total}; --limit 0 lists all", file=sys.stderr)


def _pages(
    store: SqlitePolicyStore, mode: Mode | None, before: datetime | None, limit: int
) -> Iterator[list[PolicyEntry]]:
    after, left = "", limit
    while True:
        size = min(PAGE_SIZE, left) if limit else PAGE_SIZE
        page = store.find(mode=mode, expires_before=before, after=after, limit=size)
        if page:
            yield page
        left -= len(page)
        if len(page) < size or (limit and left <= 0):
            return
        after = page[-1].policy_domain


def _list_row(entry: PolicyEntry, now: datetime) -> tuple[str, ...]:
    return (
        entry.policy_domain,
        entry.policy.mode.value,
        span(entry.expires_at - now),
        instant(entry.fetched_at),
        entry.policy_id or "-",
        _state(entry, now),
        " ".join(entry.policy.mx_patterns),
    )


def _state(entry: PolicyEntry, now: datetime) -> str:
    if is_expired(entry, now):
        return "expired"
    if entry.failure is not None:
        return f"failing ({entry.failure.reason_code})"
    return "idle" if entry.refresh_at is None else "ok"


def describe_entry(entry: PolicyEntry, now: datetime) -> dict[str, object]:
    """An entry as JSON: instants in RFC 3339 form, the policy as its lines were served."""
    failure = entry.failure
    return {
        "domain": entry.policy_domain,
        "policy_id": entry.policy_id,
        "mode": entry.policy.mode.value,
        "max_age": entry.policy.max_age,
        "mx_patterns": entry.policy.mx_patterns,
        "policy_strings": entry.policy.policy_strings,
        "warnings": entry.policy.warnings,
        "fetched_at": _rfc3339(entry.fetched_at),
        "expires_at": _rfc3339(entry.expires_at),
        "expired": is_expired(entry, now),
        "refresh_at": _rfc3339(entry.refresh_at),
        "txt_check_at": _rfc3339(entry.txt_check_at),
        "last_asked_at": _rfc3339(entry.last_asked_at),
        "failing_since": _rfc3339(entry.failing_since),
        "failure_count": entry.failure_count,
        "failure": failure
        and {
            "result_type": failure.result_type.value,
            "reason_code": failure.reason_code,
            "reason": failure.reason,
        },
    }


def _rfc3339(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


@command.command()
@click.argument("domain")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@configured
def show(config: Config, *, domain: str, as_json: bool) -> int:
    """Show what is cached for DOMAIN, with the policy as it was served."""
    now = now_utc()
    (policy_domain,) = policy_domains([domain])
    with closing(open_store(config)) as store:
        entry = store.load(policy_domain)
    if entry is None:
        print(f"no policy of {policy_domain} is cached", file=sys.stderr)
        return ExitCode.FAILURE
    if as_json:
        print(json.dumps(describe_entry(entry, now), indent=2))
    else:
        print("\n".join(_describe_lines(entry, now)))
    return ExitCode.OK


def _describe_lines(entry: PolicyEntry, now: datetime) -> Iterator[str]:
    expired = is_expired(entry, now)
    yield f"domain        {printable(entry.policy_domain)}"
    yield f"mode          {entry.policy.mode}" + (" (expired: no effect)" if expired else "")
    yield f"id            {printable(entry.policy_id) or '-'}"
    yield f"fetched       {instant(entry.fetched_at)}, {span(now - entry.fetched_at)} ago"
    verb = "expired" if expired else "expires"
    left = span(abs(entry.expires_at - now))
    yield f"{verb:<14}{instant(entry.expires_at)}, " + (f"{left} ago" if expired else f"in {left}")
    refresh = "not planned: nobody asks for the domain"
    yield f"next fetch    {instant(entry.refresh_at) if entry.refresh_at else refresh}"
    yield f"next id check {instant(entry.txt_check_at)}, at the first lookup from then on"
    yield f"last asked    {instant(entry.last_asked_at)}"
    if entry.failure is not None:
        failure = entry.failure
        yield f"failing since {instant(entry.failing_since)}, {entry.failure_count} in a row"
        yield f"because       {failure.result_type}: {printable(failure.reason)}"
    for warning in entry.policy.warnings:
        yield f"tolerated     {printable(warning)}"
    yield "policy"
    for line in entry.policy.policy_strings:
        yield f"  {printable(line)}"


@command.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@configured
def failing(config: Config, *, as_json: bool) -> None:
    """List unexpired policies that cannot be refreshed, the first to expire first.

    Policies of mode none are left out: that is how a domain leaves MTA-STS.
    """
    # RFC 8461 §10.2: seen well before the policy expires (STS-FET-39, STS-FET-40).
    now = now_utc()
    with closing(open_store(config)) as store:
        entries = store.failing(now)
    if as_json:
        for entry in entries:
            left = (entry.expires_at - now) / timedelta(days=1)
            print(json.dumps(describe_entry(entry, now) | {"days_left": round(left, 2)}))
    elif entries:
        headers = ("DOMAIN", "MODE", "DAYS LEFT", "FAILING FOR", "FAILURES", "BECAUSE")
        print("\n".join(table(headers, (_failing_row(entry, now) for entry in entries))))
    else:
        print("no refresh fails")


def _failing_row(entry: PolicyEntry, now: datetime) -> tuple[object, ...]:
    failure = entry.failure
    return (
        entry.policy_domain,
        entry.policy.mode.value,
        f"{(entry.expires_at - now) / timedelta(days=1):.1f}",
        span(now - (entry.failing_since or now)),
        entry.failure_count,
        f"{failure.result_type}: {failure.reason}" if failure else "-",
    )


@command.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@configured
def stats(config: Config, *, as_json: bool) -> None:
    """Count the cached policies and what they take on the disk."""
    with closing(open_store(config)) as store:
        found = store.stats()
    total = sum(found.mode_counts.values())
    per_domain = round((found.file_bytes - found.free_bytes) / total) if total else None
    if as_json:
        values = {
            "modes": {mode.value: count for mode, count in found.mode_counts.items()},
            "policies": total,
            "failing": found.failing_count,
            "policy_texts": found.body_count,
            "file_bytes": found.file_bytes,
            "free_bytes": found.free_bytes,
            "bytes_per_domain": per_domain,
        }
        print(json.dumps(values, indent=2))
        return
    rows: list[tuple[str, object]] = [(mode.value, n) for mode, n in found.mode_counts.items()]
    rows += [
        ("policies", total),
        ("last refresh failed", found.failing_count),
        ("different policy texts", found.body_count),
        ("bytes on disk", found.file_bytes),
        ("bytes of it unused", found.free_bytes),
        ("bytes per domain", "-" if per_domain is None else per_domain),
    ]
    print("\n".join(table(("WHAT", "COUNT"), rows)))


# ---- refresh, remove --------------------------------------------------------------------


@command.command()
@click.argument("domains", metavar="DOMAIN...", nargs=-1, required=True)
@click.option(
    "--deadline", type=DURATION, default="90s", show_default=True, help="How long to wait."
)
@configured
def refresh(config: Config, *, domains: tuple[str, ...], deadline: timedelta) -> int:
    """Have the running daemon fetch the policy of each DOMAIN now, and say how it went."""
    from strictmail.store.requests import RequestKind

    names = policy_domains(domains)
    with closing(open_store(config)) as store:
        numbers = {name: store.request(RequestKind.REFRESH, name) for name in names}
        outcomes = _await_outcomes(store, numbers, deadline.total_seconds())
    worst = ExitCode.OK
    for name in names:
        code, sentence = outcomes[name]
        print(f"{name}: {printable(sentence, 500)}")
        worst = max(worst, code)
    return worst


def _await_outcomes(
    store: SqlitePolicyStore, numbers: dict[str, int], seconds: float
) -> dict[str, tuple[ExitCode, str]]:
    outcomes: dict[str, tuple[ExitCode, str]] = {}
    start = time.monotonic()
    while len(outcomes) < len(numbers):
        waited = time.monotonic() - start
        for name in numbers.keys() - outcomes.keys():
            state = store.request_state(numbers[name])
            if state.outcome is not None:
                code = ExitCode.OK if state.succeeded else ExitCode.FAILURE
                outcomes[name] = (code, state.outcome)
            elif state.taken and waited >= seconds:
                late = f"no outcome yet; later: strictmail cache show {name}"
                outcomes[name] = (ExitCode.TEMPFAIL, late)
            elif not state.taken and waited >= min(TAKE_SECONDS, seconds):
                _give_up(store, numbers)
        if len(outcomes) < len(numbers):
            time.sleep(POLL_SECONDS)
    return outcomes


def _give_up(store: SqlitePolicyStore, numbers: dict[str, int]) -> None:
    """Nobody takes the requests: take them back, so that a later daemon is not surprised."""
    for number in numbers.values():
        store.withdraw_request(number)
    raise UnreachableError(
        f"no running daemon took the request from {store.path}; is `strictmail serve` running, "
        "with this state directory? (`--state-directory` names another)"
    )


@command.command()
@click.argument("domains", metavar="DOMAIN...", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do it.")
@configured
def remove(config: Config, *, domains: tuple[str, ...], yes: bool) -> int:
    """Forget the cached policy of each DOMAIN.

    What an unexpired policy demands is given up: until the policy is learnt again, mail goes as
    without MTA-STS. `strictmail cache refresh` gets a newer policy without that gap.
    """
    now = now_utc()
    names = policy_domains(domains)
    with closing(open_store(config)) as store:
        known = [name for name in names if _tell_removal(store, name, now)]
        if not known:
            return ExitCode.FAILURE
        if not yes:
            print("nothing removed; to do it, add --yes", file=sys.stderr)
            return ExitCode.FAILURE
        count = store.remove(known)
    print(f"removed {count}")
    return ExitCode.OK if len(known) == len(names) else ExitCode.FAILURE


def _tell_removal(store: SqlitePolicyStore, name: str, now: datetime) -> bool:
    """Say what removing an entry would mean; whether there is one."""
    try:
        entry = store.load(name)
    except StoreUnavailableError as error:
        # It may be just this row that cannot be read: removing it is then the way out.
        print(f"{name}: {error}", file=sys.stderr)
        return True
    if entry is None:
        print(f"{name}: no policy is cached", file=sys.stderr)
        return False
    if is_expired(entry, now):
        meaning = "has expired: nothing is lost"
    elif entry.policy.mode is Mode.ENFORCE:
        meaning = (
            f"is enforced for another {span(entry.expires_at - now)}: removing it gives that up, "
            "and mail may go unverified until the policy is learnt again"
        )
    else:
        meaning = f"is of mode {entry.policy.mode}: it protects no mail"
    print(f"{name}: the policy {meaning}")
    return True


# ---- export, import, backup -------------------------------------------------------------


@command.command(name="export")
@click.option("--out", metavar="FILE", help="Write to FILE (replaced when complete).")
@configured
def export(config: Config, *, out: str | None) -> int:
    """Write all cached policies as JSON, one a line, for `strictmail cache import`."""
    from strictmail.store.exchange import export_lines

    with closing(open_store(config)) as store:
        if out is None:
            for line in export_lines(store):
                print(line)
            return ExitCode.OK
        return _write_lines(out, export_lines(store))


def _write_lines(out: str, lines: Iterable[str]) -> int:
    from strictmail.cli.writing import whole_file

    try:
        with whole_file(out) as file:
            count = sum(file.write(line + "\n") > 0 for line in lines)
    except OSError as error:
        print(f"{printable(out)}: {error.strerror}; nothing exported", file=sys.stderr)
        return ExitCode.CANTCREAT
    print(f"exported {count} policies to {printable(out)}")
    return ExitCode.OK


@command.command(name="import")
@click.argument("file", type=click.File("rb"))
@configured
def import_(config: Config, *, file: BinaryIO) -> int:
    """Take in policies from FILE (`-`: standard input), as `strictmail cache export` wrote them.

    Each line is checked as if the policy came from its host. A policy that is here and was
    fetched later stays. Faulty lines are named and passed over; the exit code is then 65.
    """
    from strictmail.store.exchange import bounded_lines, import_lines

    with closing(open_store(config, create=True)) as store:
        outcome = import_lines(
            store,
            bounded_lines(file),
            now=now_utc(),
            rng=random.SystemRandom(),
            tell=_tell_fault,
        )
    print(
        f"imported {outcome.imported}, kept {outcome.kept} that are here and not older, "
        f"left out {outcome.expired} expired, refused {outcome.faulty}"
    )
    return ExitCode.DATAERR if outcome.faulty else ExitCode.OK


def _tell_fault(line: int, message: str) -> None:
    print(f"line {line}: {printable(message, 500)}", file=sys.stderr)


@command.command()
@click.argument("file")
@configured
def backup(config: Config, *, file: str) -> None:
    """Copy the store to FILE while the daemon runs; an older FILE is replaced.

    To restore, stop the daemon, put FILE in the place of the store, and remove its -wal file.
    """
    with closing(open_store(config)) as store:
        store.backup(file)
        count = store.count()
    print(f"copied {count} policies and all overrides to {printable(file)}")
