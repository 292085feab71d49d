# SPDX-License-Identifier: Apache-2.0
"""`strictmail policy override`: every action, its limits, and its end."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from strictmail.cli import cache, policy, run
from strictmail.cli.exitcodes import ExitCode
from strictmail.core.overrides import Override, OverrideAction
from strictmail.store.policies import SqlitePolicyStore
from strictmail.store.requests import RequestKind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Terminal:
    """Runs commands on a state directory and holds what they print."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self.capsys = capsys
        self.out = self.err = ""

    def run(self, *words: str) -> int:
        code = run(["policy", "override", *words, "--state-directory", str(self.directory)])
        self.out, self.err = self.capsys.readouterr()
        return code

    def add(self, domain: str, **options: str) -> int:
        values = {"action": "defer", "expires": "7d", "reason": "why"} | options
        pairs = [word for key, value in values.items() for word in (f"--{key}", value)]
        return self.run("add", domain, *pairs)

    def overrides(self) -> list[Override]:
        store = SqlitePolicyStore(self.directory / "policies.sqlite3")
        try:
            return store.overrides()
        finally:
            store.close()


@pytest.fixture(autouse=True)
def no_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the configuration nor the clock of this machine."""
    monkeypatch.delenv("STRICTMAIL_CONFIG", raising=False)
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setattr("strictmail.runtime.config.DEFAULT_CONFIG_PATH", "/nonexistent")
    monkeypatch.setattr(cache, "now_utc", lambda: NOON)
    monkeypatch.setattr(policy, "now_utc", lambda: NOON)


@pytest.fixture
def terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(tmp_path, capsys)


@pytest.fixture
def daemon(terminal: Terminal) -> Iterator[SqlitePolicyStore]:
    store = SqlitePolicyStore(terminal.directory / "policies.sqlite3")
    store.take_requests()
    yield store
    store.close()


@pytest.mark.req("STS-APP-66")
@pytest.mark.parametrize(
    ("action", "meaning"),
    [
        ("default", "the MTA's default level applies"),
        ("encrypt", "the certificate is not checked"),
        ("secure", "or it waits"),
        ("dane-only", "verified by DANE, or it waits"),
        ("defer", "mail waits"),
    ],
)
def test_add_says_what_it_means(terminal: Terminal, action: str, meaning: str) -> None:
    assert terminal.add("Example.COM.", action=action, reason="  ticket 17 ") == 0
    first, second = terminal.out.splitlines()
    assert first.startswith("example.com: ")
    assert meaning in first
    assert first.endswith("until 2026-01-08 12:00:00Z")
    assert "strictmail explain example.com" in second
    assert terminal.overrides() == [
        Override("example.com", OverrideAction(action), "ticket 17", NOON, NOON + timedelta(days=7))
    ]


@pytest.mark.parametrize("action", ["may", "none", "plaintext", "off"])
def test_no_action_means_clear_text(terminal: Terminal, action: str) -> None:
    assert terminal.add("example.com", action=action) == ExitCode.USAGE
    assert "is not one of" in terminal.err


def test_add_replaces(terminal: Terminal) -> None:
    terminal.add("example.com")
    terminal.add("example.com", action="encrypt", expires="1h")
    (found,) = terminal.overrides()
    assert (found.action, found.expires_at) == (OverrideAction.ENCRYPT, NOON + timedelta(hours=1))


def test_mx_names_go_with_secure(terminal: Terminal) -> None:
    assert terminal.add("example.com", action="secure", mx="*.Example.COM") == 0
    assert terminal.overrides()[0].mx_patterns == ("*.example.com",)
    assert terminal.add("example.com", action="encrypt", mx="mx.example.com") == ExitCode.USAGE
    assert "only goes with --action secure" in terminal.err
    assert terminal.add("example.com", action="secure", mx="mx.*.example") == ExitCode.DATAERR


@pytest.mark.parametrize("missing", ["action", "expires", "reason"])
def test_nothing_lasts_unseen(terminal: Terminal, missing: str) -> None:
    options = {"action": "defer", "expires": "7d", "reason": "why"}
    pairs = [w for k, v in options.items() if k != missing for w in (f"--{k}", v)]
    assert terminal.run("add", "example.com", *pairs) == ExitCode.USAGE
    assert f"--{missing}" in terminal.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"expires": "7"}, 'write "7s"', id="no unit"),
        pytest.param({"expires": "0s"}, "at least 1s", id="no time"),
        pytest.param({"expires": "367d"}, "at most 366d", id="longer than a year"),
        pytest.param({"reason": "  "}, "say why", id="no reason"),
        pytest.param({"reason": "x" * 201}, "at most 200 characters", id="a long reason"),
    ],
)
def test_add_refuses(terminal: Terminal, options: dict[str, str], message: str) -> None:
    assert terminal.add("example.com", **options) == ExitCode.USAGE
    assert message in terminal.err
    assert not (terminal.directory / "policies.sqlite3").exists()


def test_add_for_no_domain(terminal: Terminal) -> None:
    assert terminal.add("a..b") == ExitCode.DATAERR


def test_add_and_remove_tell_the_daemon(terminal: Terminal, daemon: SqlitePolicyStore) -> None:
    terminal.add("example.com")
    assert daemon.changed_elsewhere()
    assert [(r.kind, r.domain) for r in daemon.take_requests()] == [
        (RequestKind.FORGET, "example.com")
    ]
    assert [o.nexthop for o in daemon.overrides()] == ["example.com"]
    terminal.run("remove", "example.com")
    assert daemon.changed_elsewhere()
    assert daemon.overrides() == []


def test_list_shows_the_time_left(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal.add("long.example", reason="their \x1b[31mcertificate")
    terminal.add("short.example", action="secure", mx="*.mx.example", expires="1h")
    monkeypatch.setattr(policy, "now_utc", lambda: NOON + timedelta(hours=2))
    assert terminal.run("list") == 0
    header, long, short = terminal.out.splitlines()
    assert header.split() == ["DOMAIN", "ACTION", "LEFT", "EXPIRES", "MX", "REASON"]
    assert long.split()[:4] == ["long.example", "defer", "6d", "22h"]
    assert long.endswith(r"their \x1b[31mcertificate")
    assert short.split()[:3] == ["short.example", "secure", "expired"]
    assert "*.mx.example" in short
    terminal.run("list", "--json")
    first, second = (json.loads(line) for line in terminal.out.splitlines())
    assert (first["domain"], first["active"]) == ("long.example", True)
    assert (second["expires_at"], second["active"]) == ("2026-01-01T13:00:00Z", False)


def test_list_of_nothing(terminal: Terminal, daemon: SqlitePolicyStore) -> None:
    assert terminal.run("list") == 0
    assert terminal.out == "no overrides\n"


def test_remove(terminal: Terminal) -> None:
    terminal.add("a.example")
    assert terminal.run("remove", "A.example", "b.example") == ExitCode.FAILURE
    assert terminal.out == "a.example: override lifted\n"
    assert "b.example: there is no override" in terminal.err
    assert terminal.overrides() == []


@pytest.mark.parametrize("words", [["list"], ["remove", "a.example"]])
def test_without_a_store(terminal: Terminal, words: list[str]) -> None:
    assert terminal.run(*words) == ExitCode.CANTCREAT
    assert "there is none; check state_directory" in terminal.err
