# SPDX-License-Identifier: Apache-2.0
r"""Policies on the way between machines: JSON, one object a line, with the policy as served.

::

    {"version": 1, "domain": "example.com", "policy_id": "20260101", "fetched_at":
     "2026-01-01T00:00:00Z", "last_asked_at": "…", "body": "version: STSv1\r\n…"}

A policy is UTF-8, so its text goes through JSON unchanged. Failures and plans stay at home: they
are about this machine's view of the network.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol

from strictmail.core.errors import PolicySyntaxError, SyntaxFault
from strictmail.core.names import parse_domain
from strictmail.core.sts import lifecycle
from strictmail.core.sts.lifecycle import PolicyEntry
from strictmail.core.sts.values import MAX_POLICY_BYTES
from strictmail.store.rows import instant_at, parse_stored, second_down

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from strictmail.ports import Rng

FORMAT_VERSION: Final = 1

MAX_LINE_BYTES: Final = 8 * MAX_POLICY_BYTES
"""Every octet of the largest policy as a six-character escape, and the rest."""

MAX_CLOCK_SKEW: Final = timedelta(minutes=5)
"""A policy fetched further in the future than this was fetched by a wrong clock."""

BATCH_SIZE: Final = 500
"""Entries written in one transaction."""

_POLICY_ID: Final = re.compile(r"[A-Za-z0-9]{0,32}")


class ExchangeStore(Protocol):
    """What is needed of a policy store here."""

    def iterate(self, *, after: str = "", limit: int = 1000) -> list[PolicyEntry]:
        """A page of entries in order of domain."""
        ...

    def save_newer(self, entries: Iterable[PolicyEntry]) -> int:
        """Save those fetched later than what is there; how many were."""
        ...


class LineFault(ValueError):  # noqa: N818 - as SyntaxFault
    """A line that cannot be imported: name it and go on with the next."""


@dataclass(frozen=True, slots=True)
class ImportOutcome:
    """How many lines ended how.

    Attributes:
        imported: Saved.
        kept: Passed over: the store has a policy that was not fetched earlier.
        expired: Passed over: the policy has no effect any more.
        faulty: Refused.
    """

    imported: int
    kept: int
    expired: int
    faulty: int


def export_lines(store: ExchangeStore) -> Iterator[str]:
    """All entries in order of domain, an ASCII line each, without line end.

    Raises:
        StoreUnavailableError: What was yielded is good, but not all.
    """
    page = store.iterate()
    while page:
        for entry in page:
            yield format_line(entry)
        page = store.iterate(after=page[-1].policy_domain)


def format_line(entry: PolicyEntry) -> str:
    """One entry as a line."""
    values = {
        "version": FORMAT_VERSION,
        "domain": entry.policy_domain,
        "policy_id": entry.policy_id,
        "fetched_at": _format_instant(entry.fetched_at),
        "last_asked_at": _format_instant(entry.last_asked_at),
        # RFC 8461 §3.2: what is no UTF-8 was refused when it was fetched (STS-POL-33).
        "body": entry.body.decode("utf-8"),
    }
    return json.dumps(values)


def bounded_lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file; of one that is longer than any good line, only its beginning."""
    while line := file.readline(MAX_LINE_BYTES + 1):
        yield line
        while not line.endswith(b"\n") and len(line) > MAX_LINE_BYTES:
            line = file.readline(MAX_LINE_BYTES + 1)


def import_lines(
    store: ExchangeStore,
    lines: Iterable[bytes],
    *,
    now: datetime,
    rng: Rng,
    tell: Callable[[int, str], None],
) -> ImportOutcome:
    """Take entries in, batch by batch.

    Args:
        store: Where to.
        lines: With or without line ends; empty ones are passed over.
        now: The instant of the import.
        rng: Spreads the refreshes.
        tell: Called with line number (1 is the first) and sentence for each fault.

    Raises:
        StoreUnavailableError: Earlier batches were saved; the same import can be run again.
    """
    imported = read = expired = faulty = 0
    batch: dict[str, PolicyEntry] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry = parse_line(line, now=now, jitter=rng.random())
        except LineFault as fault:
            tell(number, str(fault))
            faulty += 1
            continue
        if lifecycle.is_expired(entry, now):
            expired += 1
            continue
        read += 1
        if entry.policy_domain in batch or len(batch) >= BATCH_SIZE:
            # The same domain twice in one batch would count the earlier line as saved.
            imported += store.save_newer(batch.values())
            batch = {}
        batch[entry.policy_domain] = entry
    imported += store.save_newer(batch.values())
    return ImportOutcome(imported, read - imported, expired, faulty)


def parse_line(line: bytes, *, now: datetime, jitter: float) -> PolicyEntry:
    """Make an entry of a line, checked as if it came from the network.

    Args:
        line: One JSON object.
        now: The instant of the import.
        jitter: In [0, 1): where in its span the next fetch lies.

    Raises:
        LineFault: What is wrong with it.
    """
    values = _parse_object(line)
    domain = _parse_domain(_text(values, "domain"))
    policy_id = _text(values, "policy_id")
    if not _POLICY_ID.fullmatch(policy_id):
        raise LineFault("policy_id must be up to 32 letters and digits")
    fetched_at = _parse_instant(values, "fetched_at")
    if fetched_at > now + MAX_CLOCK_SKEW:
        raise LineFault("fetched_at is in the future: check the clocks of both machines")
    body = _parse_body(values)
    try:
        body, policy = parse_stored(body)
    except PolicySyntaxError as error:
        raise LineFault(f"the policy of {domain} is not valid: {error}") from error
    return PolicyEntry(
        policy_domain=domain,
        policy_id=policy_id,
        policy=policy,
        body=body,
        fetched_at=fetched_at,
        refresh_at=lifecycle.refresh_time(fetched_at, policy.max_age, jitter),
        txt_check_at=now,
        last_asked_at=min(now, _parse_instant(values, "last_asked_at")),
    )


def _parse_object(line: bytes) -> dict[str, Any]:
    if len(line) > MAX_LINE_BYTES:
        raise LineFault(f"longer than {MAX_LINE_BYTES} octets")
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise LineFault(f"not JSON: {error}") from error
    if not isinstance(values, dict):
        raise LineFault("not a JSON object")
    version = values.get("version")
    if version != FORMAT_VERSION:
        known = f"this strictmail reads version {FORMAT_VERSION}"
        raise LineFault(f"version is {version!r}; {known}")
    return values


def _text(values: dict[str, Any], key: str) -> str:
    value = values.get(key)
    if not isinstance(value, str):
        raise LineFault(f"{key} is missing" if value is None else f"{key} is not a string")
    return value


def _parse_domain(text: str) -> str:
    try:
        return parse_domain(text)
    except SyntaxFault as error:
        raise LineFault(f"domain: {error}") from error


def _parse_instant(values: dict[str, Any], key: str) -> datetime:
    text = _text(values, key)
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return instant_at(second_down(moment))
    except (ValueError, OverflowError):
        pass
    raise LineFault(f"{key} is not an instant such as 2026-01-31T12:00:00Z")


def _parse_body(values: dict[str, Any]) -> bytes:
    try:
        body = _text(values, "body").encode("utf-8")
    except UnicodeEncodeError as error:
        raise LineFault("body has half a surrogate pair: it is no UTF-8") from error
    # RFC 8461 §3.3: the bound on what a policy host may send (STS-FET-23).
    if len(body) > MAX_POLICY_BYTES:
        raise LineFault(f"the policy is longer than {MAX_POLICY_BYTES} octets")
    return body


def _format_instant(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
