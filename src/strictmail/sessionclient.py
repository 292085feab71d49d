# SPDX-License-Identifier: Apache-2.0
"""Tell a running daemon of SMTP sessions, for its TLS reports: for MTAs written in Python.

Example::

    import strictmail

    policy = strictmail.make_policy(
        strictmail.PolicyType.STS, "example.com", policy_lines, mx_patterns, domain="example.com"
    )
    strictmail.report_sessions(
        [strictmail.Session("example.com", "", (strictmail.JudgedPolicy(policy, True),))],
        key="queue-id-4711",
    )

Blocking; from a coroutine, `await asyncio.to_thread(strictmail.report_sessions, ...)`.
"""

from __future__ import annotations

import http.client
import json
import socket
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from strictmail.core.errors import SessionSyntaxError, StoreUnavailableError, UnreachableError
from strictmail.core.tlsrpt.session import Session, Source
from strictmail.core.tlsrpt.sessionjson import TimedSession, ToldSessions, encode_sessions

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_DAEMON: Final = "http://127.0.0.1:8460"
MAX_ANSWER_BYTES: Final = 64 * 1024
_OK, _REFUSED, _UNAVAILABLE = 200, 400, 503


def report_sessions(
    sessions: Sequence[Session | TimedSession],
    *,
    daemon: str = DEFAULT_DAEMON,
    key: str | None = None,
    identity: str = "",
    timeout: float = 10.0,
) -> int:
    """Have sessions counted: all of them or none.

    Args:
        sessions: At most 1000. A `Session` is of now; a `TimedSession` says when it was, and how
            many were alike. A success stands for one that was looked at; policies whose success
            nobody verified belong into `unverified`.
        daemon: `http://ADDRESS:PORT`, or `unix:/PATH`: what `http.listen` of the configuration
            says.
        key: A name of your choice for this call: told again under it, nothing is counted again,
            so that a call which failed can be repeated.
        identity: The sender identity that reports them.
        timeout: Seconds.

    Returns:
        How many were counted now; 0 if they had been before.

    Raises:
        SessionSyntaxError: Refused; `place` says which member. Correct it: nothing was counted.
        StoreUnavailableError: The daemon cannot store them now; try again, with a key.
        UnreachableError: No answer: nobody knows whether they were counted; try again, with a key.
    """
    timed = tuple(one if isinstance(one, TimedSession) else TimedSession(one) for one in sessions)
    body = encode_sessions(ToldSessions(timed, identity, Source.PYTHON))
    headers = {"Content-Type": "application/json"}
    if key is not None:
        headers["Idempotency-Key"] = key
    try:
        status, answer = _post(daemon, body, headers, timeout)
        document = json.loads(answer)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UnreachableError(f"{daemon}: no answer of a strictmail daemon: {error}") from error
    if status == _OK:
        return int(document["counted"])
    fault = document["error"] if isinstance(document, dict) else {}
    message = str(fault.get("message", f"status {status}"))
    if status == _UNAVAILABLE:
        raise StoreUnavailableError(message)
    if status == _REFUSED:
        raise SessionSyntaxError(message, place=str(fault.get("member", "")))
    raise UnreachableError(f"{daemon}: {message}; does it run the role collector?")


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the path."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _post(daemon: str, body: bytes, headers: dict[str, str], timeout: float) -> tuple[int, bytes]:
    connection: http.client.HTTPConnection
    if daemon.startswith("unix:"):
        connection = _UnixConnection(daemon.removeprefix("unix:"), timeout)
    else:
        address = urlsplit(daemon if "//" in daemon else f"//{daemon}")
        connection = http.client.HTTPConnection(
            address.hostname or "", address.port, timeout=timeout
        )
    try:
        connection.request("POST", "/v1/session", body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read(MAX_ANSWER_BYTES)
    finally:
        connection.close()
