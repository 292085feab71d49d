# SPDX-License-Identifier: Apache-2.0
"""What `strictmail doctor` looks at for the collector: kernel, sockets, Postfix, the counts."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from strictmail.core.errors import StoreError
from strictmail.runtime.addresses import UnixSocket
from strictmail.runtime.tlsrptconf import CollectorFacts, SocketFacts, judge_collectors

if TYPE_CHECKING:
    from strictmail.runtime.addresses import SocketAddress
    from strictmail.runtime.config import Config
    from strictmail.runtime.health import Finding
    from strictmail.runtime.postconf import PostfixFacts

QUEUE_FILE: Final = Path("/proc/sys/net/unix/max_dgram_qlen")
POSTFIX_USER: Final = "postfix"
LATELY_DAYS: Final = 2

_UNVERIFIED: Final = (
    "SELECT sum(min(waiting, told)) FROM (SELECT "
    "(SELECT sum(unverified) FROM policy_count "
    "WHERE day_domain_id = day_domain.id AND unverified > 0) AS waiting, "
    "(SELECT sum(unverified_count) FROM source_count WHERE day_domain_id = day_domain.id) AS told "
    "FROM day_domain WHERE day >= ?)"
)
"""A session may wait under several policies, and is one."""

_LATE: Final = "SELECT sum(late_count) FROM day_domain WHERE late_count > 0 AND day >= ?"


def check_collectors(config: Config, postconf_command: str) -> list[Finding]:
    """Gather and judge."""
    facts = CollectorFacts(
        queue_length=_queue_length(),
        sockets=[socket_facts(collector.socket) for collector in config.collectors],
        unverified=_ask_lately(config, _UNVERIFIED),
        late=_ask_lately(config, _LATE),
    )
    return list(judge_collectors(facts, config, _postfix(postconf_command)))


def _postfix(command_name: str) -> PostfixFacts | None:
    from strictmail.cli.doctor import postfix_facts

    path = shutil.which(command_name)
    if path is None:
        return None
    try:
        return postfix_facts(path)
    except (OSError, subprocess.SubprocessError):
        return None  # told where Postfix itself is judged


def _queue_length() -> int | None:
    try:
        return int(QUEUE_FILE.read_text())
    except (OSError, ValueError):
        return None


def socket_facts(address: SocketAddress) -> SocketFacts:
    """A socket's rights, and who Postfix is."""
    if not isinstance(address, UnixSocket):
        return SocketFacts("")
    uid, gids = _postfix_user()
    try:
        status = Path(address.path).lstat()
    except OSError:
        return SocketFacts(address.path, postfix_uid=uid, postfix_gids=gids)
    return SocketFacts(
        address.path,
        mode=status.st_mode,
        gid=status.st_gid,
        uid=status.st_uid,
        postfix_uid=uid,
        postfix_gids=gids,
    )


def _postfix_user() -> tuple[int, frozenset[int] | None]:
    import os
    import pwd

    try:
        entry = pwd.getpwnam(POSTFIX_USER)
    except KeyError:
        return -1, None
    return entry.pw_uid, frozenset(os.getgrouplist(POSTFIX_USER, entry.pw_gid))


def _ask_lately(config: Config, sql: str) -> int | None:
    """A number of the last days from the session store; None where it cannot be asked."""
    from strictmail.store.sessionrows import day_number
    from strictmail.store.sessions import SessionStore

    if not Path(config.sessions_path).exists():
        return None
    with contextlib.suppress(StoreError):
        store = SessionStore(config.sessions_path, create=False, open_now=False)
        try:
            rows = store.reading(sql, (day_number(datetime.now(UTC).date()) - LATELY_DAYS,))
        finally:
            store.close()
        return int(rows[0][0] or 0)
    return None
