# SPDX-License-Identifier: Apache-2.0
"""Any octets as a log give sessions or nothing, in bounded memory, the same when read again.

A session has a domain and a name of its own; one that names a relay needs a line of Postfix's own
that says so. Whatever stands in an address or in a reply of a server begins no line, so it makes
no session: the victim's domain, which occurs in such places only, is never counted.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from harness import instrumented, run

with instrumented():
    from strictmail.core.mta.loglines import LogClock
    from strictmail.core.mta.postfixlog import MAX_EVENTS, MAX_PROCESSES, PostfixLog

if TYPE_CHECKING:
    from collections.abc import Iterator

    from strictmail.core.mta.postfixlog import LoggedSession

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
VICTIM = "victim.example"
HEAD = "Feb 28 12:00:00 out postfix/smtp[7]: "
PEER = "mx.example.com[192.0.2.1]"
ESTABLISHED = f"Verified TLS connection established to {PEER}:25: TLSv1.3 with cipher X (1/1 bits)"
RESULT = "delay=0.1, delays=0/0/0.1/0, dsn=2.0.0, status=sent (250 ok)"
SENT = f"4XyZ12abcd: to=<a@example.com>, relay={PEER}:25, {RESULT}"


def seeds() -> Iterator[bytes]:
    """A line of each kind, alone and as an attempt."""
    refused = SENT.replace("status=sent (250 ok)", "status=deferred ({})")
    texts = (
        ESTABLISHED,
        SENT,
        refused.format("Server certificate not verified"),
        refused.format(f"TLS is required, but was not offered by host {PEER}"),
        refused.format("Cannot start TLS: handshake failure"),
        f"certificate verification failed for {PEER}:25: self-signed certificate",
        f"SSL_connect error to {PEER}:25: -1",
        f"TLSRPT: status=success, domain=example.com, receiving_mx={PEER}",
        "warning: MX name 'mx.example.com' does not match STS MX pattern for 'example.com'",
        "warning: TLS policy lookup for example.com/mx.example.com: TLSA lookup error for x:25",
    )
    for text in texts:
        yield (HEAD + text).encode()
        yield "\n".join(HEAD + one for one in (ESTABLISHED, text, SENT)).encode()


def check(data: bytes) -> None:
    """Raise if the invariant is broken."""
    lines = data.decode("utf-8", "replace").split("\n")
    found = _read(lines)
    assert found == _read(lines)
    assert all(one.domain and one.name for one in found)
    assert len({one.name for one in found}) == len(set(found))
    _check_injection(" ".join(lines).replace(VICTIM, ""))


def _read(lines: list[str]) -> list[LoggedSession]:
    clock, log = LogClock(UTC, NOW), PostfixLog()
    found: list[LoggedSession] = []
    for mark, line in enumerate(lines):
        parsed = clock.read(line)
        if parsed is not None:
            found += log.feed(parsed, mark)
        attempts = log._attempts  # noqa: SLF001 - what is bounded
        assert len(attempts) <= MAX_PROCESSES + 1
        assert all(len(attempt.events) <= MAX_EVENTS for attempt in attempts.values())
    return [*found, *log.settle()]


def _check_injection(text: str) -> None:
    """An address and a reply, each with the text and Postfix's words about the victim in it."""
    forged = f"to=<a@{VICTIM}>, relay={PEER}:25, {RESULT}"
    reply = f"host {PEER} said: 450 {text} {forged} {HEAD}{SENT}".replace("example.com", VICTIM)
    lines = [
        HEAD + ESTABLISHED,
        f"{HEAD}4XyZ12abcd: to=<{text}{forged}@example.com>, relay={PEER}:25, {RESULT}",
        HEAD + ESTABLISHED,
        (
            f"{HEAD}4XyZ12abcd: to=<a@example.com>, relay=none, delay=0, delays=0/0/0/0, dsn=4.0.0, "
            f"status=deferred ({reply})"
        ),
    ]
    assert not [one for one in _read(lines) if one.domain.endswith(VICTIM)]


if __name__ == "__main__":
    run(check, seeds())
