# SPDX-License-Identifier: Apache-2.0
"""A name server and a mail server in threads, for commands and daemons in processes of their own."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dns.message
import dns.rrset
from tests.service.serve.stub import NameServer

from strictmail.core.tlsrpt.counts import Counts
from strictmail.core.tlsrpt.results import PolicyType
from strictmail.core.tlsrpt.session import JudgedPolicy, ReportedPolicy, Session
from strictmail.store.outbox import Outbox
from strictmail.store.sessions import SessionStore

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from datetime import date
    from pathlib import Path

    from tests.service.net.mailserver import MailServer

DAY = datetime.now(UTC).date() - timedelta(days=2)
"""Over, whatever the time is."""


class Records(NameServer):
    """Answers `_smtp._tls.<name> TXT` from a table; an empty one: each name with its own mailbox."""

    def __init__(self, records: dict[str, str] | None = None) -> None:
        super().__init__()
        self.records = records or {}

    def answer(self, query: dns.message.Message) -> dns.message.Message:
        reply = super().answer(query)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        if question.rdtype.name == "TXT" and name.startswith("_smtp._tls."):
            domain = name.removeprefix("_smtp._tls.")
            usual = f"v=TLSRPTv1; rua=mailto:tls@{domain}" if not self.records else ""
            text = self.records.get(domain, usual)
            if text:
                reply.answer.append(
                    dns.rrset.from_text(question.name, 300, "IN", "TXT", f'"{text}"')
                )
        return reply


class Mail(threading.Thread):
    """A mail server on a loop in a thread."""

    def __init__(self, server: MailServer) -> None:
        super().__init__(daemon=True)
        self.server = server
        self.loop = asyncio.new_event_loop()
        self._ready = threading.Event()

    def run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self._live())
        self.loop.close()

    async def _live(self) -> None:
        self._over = asyncio.Event()
        async with self.server:
            self._ready.set()
            await self._over.wait()

    def begin(self) -> Mail:
        self.start()
        assert self._ready.wait(30)
        return self

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run something on its loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self._over.set)
        self.join(30)


class Place:
    """A state directory, its configuration, and what stands in it."""

    def __init__(self, directory: Path, records: Records, mail: Mail, extra: str = "") -> None:
        self.state = directory / "state"
        self.state.mkdir()
        self.config = directory / "strictmail.toml"
        self.config.write_text(
            f'state_directory = "{self.state}"\n'
            f'[log]\nformat = "json"\n'
            f'[dns]\nservers = ["127.0.0.1:{records.port}"]\ntimeout = "5s"\n'
            f'[http]\nlisten = ""\n'
            '[reporter]\norganization = "Sender"\ncontact = "tls@sender.example"\n'
            f"signed_by_mta = true\nrelay_port = {mail.server.port}\n{extra}"
        )

    def store(self) -> SessionStore:
        return SessionStore(self.state / "reports.sqlite3")

    def count(self, *domains: str, day: date = DAY, times: int = 3) -> None:
        counts = Counts()
        for domain in domains:
            policy = ReportedPolicy(PolicyType.NO_POLICY_FOUND, domain)
            counts.add(day, Session(domain, "", (JudgedPolicy(policy, succeeded=True),)), times)
        store = self.store()
        store.add(counts)
        store.close()

    def states(self) -> dict[str, str]:
        """Destination -> state."""
        store = self.store()
        try:
            outbox = Outbox(store)
            return {
                delivery.destination: str(delivery.state)
                for report in outbox.reports()
                for delivery in outbox.deliveries(report.row_id)
            }
        finally:
            store.close()

    def let_time_pass(self) -> set[str]:
        """What is held or waits for its moment is due; the destinations that were held."""
        store = self.store()
        held = store.reading("SELECT destination FROM delivery WHERE begun = 1")
        with store.writing() as connection:
            connection.execute("UPDATE delivery SET next_at = 0 WHERE state = 'waiting'")
        store.close()
        return {destination for (destination,) in held}
