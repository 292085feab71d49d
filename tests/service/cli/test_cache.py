# SPDX-License-Identifier: Apache-2.0
"""`strictmail cache`: every command, and how each fails."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from strictmail.cli import cache, run
from strictmail.cli.exitcodes import ExitCode
from strictmail.core.sts.lifecycle import PolicyEntry, apply_fetch_failed
from strictmail.core.sts.policy import parse_policy
from strictmail.core.sts.values import FetchFailure
from strictmail.core.tlsrpt.results import ResultType
from strictmail.store.policies import SqlitePolicyStore
from strictmail.store.requests import RequestKind

if TYPE_CHECKING:
    from pathlib import Path

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
TIMEOUT = FetchFailure(ResultType.STS_POLICY_FETCH_ERROR, "no answer in 60s", "timeout")


def build_entry(
    domain: str, *, mode: str = "enforce", max_age: int = 604_800, fetched_at: datetime = NOON - DAY
) -> PolicyEntry:
    body = f"version: STSv1\r\nmode: {mode}\r\nmx: *.{domain}\r\nmax_age: {max_age}\r\n".encode()
    soon = fetched_at + DAY
    return PolicyEntry(domain, "20260101", parse_policy(body), body, fetched_at, soon, soon, NOON)


class Terminal:
    """Runs commands on a state directory and holds what they print."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self.capsys = capsys
        self.out = self.err = ""

    def run(self, *words: str) -> int:
        code = run(["cache", *words, "--state-directory", str(self.directory)])
        self.out, self.err = self.capsys.readouterr()
        return code

    def json_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def path(self) -> Path:
        return self.directory / "policies.sqlite3"


@pytest.fixture(autouse=True)
def no_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the configuration nor the clock of this machine."""
    monkeypatch.delenv("STRICTMAIL_CONFIG", raising=False)
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setattr("strictmail.runtime.config.DEFAULT_CONFIG_PATH", "/nonexistent")
    monkeypatch.setattr(cache, "now_utc", lambda: NOON)


@pytest.fixture
def terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(tmp_path, capsys)


@pytest.fixture
def store(terminal: Terminal) -> Iterator[SqlitePolicyStore]:
    """The store as a daemon has it open."""
    opened = SqlitePolicyStore(terminal.path)
    opened.save(
        [
            build_entry("enforced.example"),
            build_entry("tested.example", mode="testing", max_age=3 * 86_400),
            build_entry("expired.example", max_age=3600),
            build_entry("left.example", mode="none"),
        ]
    )
    opened.take_requests()
    yield opened
    opened.close()


def words(line: str) -> list[str]:
    return line.split()


# ---- without a store --------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        ["list"],
        ["show", "a.example"],
        ["failing"],
        ["stats"],
        ["export"],
        ["refresh", "a.example"],
        ["remove", "a.example", "--yes"],
        ["backup", "copy"],
    ],
    ids=lambda command: command[0],
)
def test_without_a_store_none_is_made(terminal: Terminal, command: list[str]) -> None:
    assert terminal.run(*command) == ExitCode.CANTCREAT
    assert "there is none; check state_directory" in terminal.err
    assert terminal.out == ""
    assert not terminal.path.exists()


# ---- list -------------------------------------------------------------------------------


def test_list(terminal: Terminal, store: SqlitePolicyStore) -> None:
    assert terminal.run("list") == 0
    header, *rows = terminal.out.splitlines()
    assert header.startswith("DOMAIN            MODE     EXPIRES IN")
    assert words(rows[0]) == [
        *("enforced.example", "enforce", "6d", "0h"),
        *("2025-12-31", "12:00:00Z", "20260101", "ok", "*.enforced.example"),
    ]
    assert [words(row)[0] for row in rows] == [
        "enforced.example",
        "expired.example",
        "left.example",
        "tested.example",
    ]
    assert "expired" in words(rows[1])
    # Columns stand in line.
    assert {row.index("20260101") for row in rows} == {header.index("ID")}


@pytest.mark.parametrize(
    ("options", "domains"),
    [
        pytest.param(["--mode", "testing"], ["tested.example"], id="mode"),
        pytest.param(
            ["--expiring-within", "3d"], ["expired.example", "tested.example"], id="expiring"
        ),
        pytest.param(
            ["--expiring-within", "3d", "--mode", "enforce"], ["expired.example"], id="both"
        ),
        pytest.param(["--limit", "1"], ["enforced.example"], id="limit"),
    ],
)
def test_list_of_some(
    terminal: Terminal, store: SqlitePolicyStore, options: list[str], domains: list[str]
) -> None:
    assert terminal.run("list", "--json", *options) == 0
    assert [line["domain"] for line in terminal.json_lines()] == domains


def test_list_says_what_it_left_out(terminal: Terminal, store: SqlitePolicyStore) -> None:
    terminal.run("list", "--limit", "2")
    assert len(terminal.out.splitlines()) == 3
    assert "2 of 4; --limit 0 lists all" in terminal.err
    terminal.run("list", "--limit", "4")
    assert terminal.err == ""


def test_list_of_everything_pages(
    terminal: Terminal, store: SqlitePolicyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "PAGE_SIZE", 2)
    terminal.run("list", "--limit", "0")
    lines = terminal.out.splitlines()
    assert len(lines) == 5
    assert sum(line.startswith("DOMAIN") for line in lines) == 1


def test_list_of_nothing(terminal: Terminal) -> None:
    SqlitePolicyStore(terminal.path).close()
    assert terminal.run("list") == 0
    assert terminal.out == "no policy is cached\n"
    assert terminal.run("list", "--json") == 0
    assert terminal.out == ""


def test_list_of_nothing_that_fits(terminal: Terminal, store: SqlitePolicyStore) -> None:
    store.remove(["left.example"])
    terminal.run("list", "--mode", "none")
    assert terminal.out == "no cached policy fits\n"


def test_list_as_json(terminal: Terminal, store: SqlitePolicyStore) -> None:
    terminal.run("list", "--json", "--limit", "1")
    (line,) = terminal.json_lines()
    assert line == {
        "domain": "enforced.example",
        "policy_id": "20260101",
        "mode": "enforce",
        "max_age": 604_800,
        "mx_patterns": ["*.enforced.example"],
        "policy_strings": [
            "version: STSv1",
            "mode: enforce",
            "mx: *.enforced.example",
            "max_age: 604800",
        ],
        "warnings": [],
        "fetched_at": "2025-12-31T12:00:00Z",
        "expires_at": "2026-01-07T12:00:00Z",
        "expired": False,
        "refresh_at": "2026-01-01T12:00:00Z",
        "txt_check_at": "2026-01-01T12:00:00Z",
        "last_asked_at": "2026-01-01T12:00:00Z",
        "failing_since": None,
        "failure_count": 0,
        "failure": None,
    }


def test_a_duration_without_unit_is_refused(terminal: Terminal, store: SqlitePolicyStore) -> None:
    assert terminal.run("list", "--expiring-within", "3") == ExitCode.USAGE
    assert 'write "3s"' in terminal.err


# ---- show -------------------------------------------------------------------------------


@pytest.mark.req("SEC-41")
def test_show_prints_the_policy_as_served(terminal: Terminal, store: SqlitePolicyStore) -> None:
    assert terminal.run("show", "Enforced.Example.") == 0
    lines = terminal.out.splitlines()
    assert lines[:2] == ["domain        enforced.example", "mode          enforce"]
    assert "fetched       2025-12-31 12:00:00Z, 1d 0h ago" in lines
    assert "expires       2026-01-07 12:00:00Z, in 6d 0h" in lines
    assert lines[-5:] == [
        "policy",
        "  version: STSv1",
        "  mode: enforce",
        "  mx: *.enforced.example",
        "  max_age: 604800",
    ]


def test_show_of_an_expired_policy(terminal: Terminal, store: SqlitePolicyStore) -> None:
    terminal.run("show", "expired.example")
    assert "enforce (expired: no effect)" in terminal.out
    assert "expired       2025-12-31 13:00:00Z, 23h 0m ago" in terminal.out


def test_show_escapes_what_a_stranger_wrote(terminal: Terminal, store: SqlitePolicyStore) -> None:
    body = (
        "version: STSv1\nmode: enforce\nmx: mx.example\nmax_age: 86400\nx-odd: é\u202e\u2028!\n"
    ).encode()
    entry = replace(build_entry("odd.example"), body=body, policy=parse_policy(body))
    store.save([entry])
    assert terminal.run("show", "odd.example") == 0
    assert terminal.out.isascii()
    assert r"x-odd: \xe9\u202e\u2028!" in terminal.out


def test_show_of_a_failing_policy(terminal: Terminal, store: SqlitePolicyStore) -> None:
    failing = apply_fetch_failed(build_entry("enforced.example"), TIMEOUT, NOON - DAY / 2, 0.0)
    store.save([failing])
    terminal.run("show", "enforced.example")
    assert "failing since 2026-01-01 00:00:00Z, 1 in a row" in terminal.out
    assert "because       sts-policy-fetch-error: no answer in 60s" in terminal.out


def test_show_as_json(terminal: Terminal, store: SqlitePolicyStore) -> None:
    terminal.run("show", "enforced.example", "--json")
    assert json.loads(terminal.out)["mode"] == "enforce"


def test_show_of_nothing(terminal: Terminal, store: SqlitePolicyStore) -> None:
    assert terminal.run("show", "other.example") == ExitCode.FAILURE
    assert "no policy of other.example is cached" in terminal.err


def test_show_of_no_domain(terminal: Terminal, store: SqlitePolicyStore) -> None:
    assert terminal.run("show", "a b") == ExitCode.DATAERR
    assert terminal.err.startswith("strictmail: ")


# ---- failing ----------------------------------------------------------------------------


@pytest.mark.req("STS-FET-39", "STS-FET-40")
def test_failing(terminal: Terminal, store: SqlitePolicyStore) -> None:
    names = ("enforced.example", "tested.example", "left.example")
    entries = [store.load(name) for name in names]
    store.save([apply_fetch_failed(e, TIMEOUT, NOON - DAY / 2, 0.0) for e in entries if e])
    assert terminal.run("failing") == 0
    _, *rows = terminal.out.splitlines()
    # The first to expire stands first; a clean opt-out is no news.
    assert [words(row)[:5] for row in rows] == [
        ["tested.example", "testing", "2.0", "12h", "0m"],
        ["enforced.example", "enforce", "6.0", "12h", "0m"],
    ]
    assert all(row.endswith("sts-policy-fetch-error: no answer in 60s") for row in rows)
    terminal.run("failing", "--json")
    assert [line["days_left"] for line in terminal.json_lines()] == [2.0, 6.0]


def test_failing_of_nothing(terminal: Terminal, store: SqlitePolicyStore) -> None:
    assert terminal.run("failing") == 0
    assert terminal.out == "no refresh fails\n"


# ---- stats ------------------------------------------------------------------------------


def test_stats(terminal: Terminal, store: SqlitePolicyStore) -> None:
    assert terminal.run("stats") == 0
    rows = {" ".join(words(line)[:-1]): words(line)[-1] for line in terminal.out.splitlines()}
    assert (rows["enforce"], rows["testing"], rows["none"]) == ("2", "1", "1")
    assert rows["policies"] == "4"
    terminal.run("stats", "--json")
    values = json.loads(terminal.out)
    assert values["modes"] == {"enforce": 2, "testing": 1, "none": 1}
    assert values["policy_texts"] == 4
    assert values["bytes_per_domain"] > 0


def test_stats_of_an_empty_store(terminal: Terminal) -> None:
    SqlitePolicyStore(terminal.path).close()
    assert terminal.run("stats", "--json") == 0
    assert json.loads(terminal.out)["bytes_per_domain"] is None


# ---- refresh ----------------------------------------------------------------------------


class Daemon:
    """Stands in for time and daemon: each sleep of the command is a turn of the daemon's."""

    def __init__(self, store: SqlitePolicyStore, turn: Callable[[SqlitePolicyStore], None]) -> None:
        self.store = store
        self.turn = turn
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.turn(self.store)


@pytest.fixture
def employ(
    store: SqlitePolicyStore, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[SqlitePolicyStore], None]], Daemon]:
    def employ(turn: Callable[[SqlitePolicyStore], None]) -> Daemon:
        daemon = Daemon(store, turn)
        monkeypatch.setattr(cache, "time", daemon)
        return daemon

    return employ


Employ = Callable[[Callable[[SqlitePolicyStore], None]], Daemon]


def test_refresh_prints_what_the_daemon_says(terminal: Terminal, employ: Employ) -> None:
    def work(store: SqlitePolicyStore) -> None:
        for request in store.take_requests():
            assert request.kind is RequestKind.REFRESH
            good = request.domain == "enforced.example"
            outcome = "mode enforce" if good else "sts-webpki-invalid: \x1b[31mred"
            store.answer_request(request.number, outcome, succeeded=good)

    employ(work)
    assert terminal.run("refresh", "Enforced.example", "enforced.example") == 0
    assert terminal.out == "enforced.example: mode enforce\n"
    assert terminal.run("refresh", "enforced.example", "other.example") == ExitCode.FAILURE
    assert terminal.out.splitlines() == [
        "enforced.example: mode enforce",
        r"other.example: sts-webpki-invalid: \x1b[31mred",
    ]


def test_refresh_without_a_daemon(
    terminal: Terminal, employ: Employ, store: SqlitePolicyStore
) -> None:
    daemon = employ(lambda _: None)
    assert terminal.run("refresh", "enforced.example") == ExitCode.UNAVAILABLE
    assert "no running daemon took the request" in terminal.err
    assert "`strictmail serve`" in terminal.err
    assert 10 <= daemon.now < 11
    # It does not lie in wait for a later daemon.
    assert store.take_requests() == []


def test_refresh_with_a_daemon_that_is_slow(terminal: Terminal, employ: Employ) -> None:
    def take_only(store: SqlitePolicyStore) -> None:
        store.take_requests()

    daemon = employ(take_only)
    assert terminal.run("refresh", "enforced.example", "--deadline", "20s") == ExitCode.TEMPFAIL
    assert "no outcome yet; later: strictmail cache show enforced.example" in terminal.out
    assert 20 <= daemon.now < 21


# ---- remove -----------------------------------------------------------------------------


def test_remove_says_what_it_means_first(terminal: Terminal, store: SqlitePolicyStore) -> None:
    names = ["enforced.example", "tested.example", "expired.example"]
    assert terminal.run("remove", *names) == ExitCode.FAILURE
    enforced, tested, expired = terminal.out.splitlines()
    assert "is enforced for another 6d 0h: removing it gives that up" in enforced
    assert "is of mode testing: it protects no mail" in tested
    assert "has expired: nothing is lost" in expired
    assert "nothing removed; to do it, add --yes" in terminal.err
    assert store.count() == 4


def test_remove_tells_the_daemon(terminal: Terminal, store: SqlitePolicyStore) -> None:
    assert terminal.run("remove", "enforced.example", "--yes") == 0
    assert terminal.out.splitlines()[-1] == "removed 1"
    assert store.load("enforced.example") is None
    assert store.changed_elsewhere()
    (request,) = store.take_requests()
    assert (request.kind, request.domain) == (RequestKind.FORGET, "enforced.example")


def test_remove_of_some_that_are_not_there(terminal: Terminal, store: SqlitePolicyStore) -> None:
    assert terminal.run("remove", "no.example", "--yes") == ExitCode.FAILURE
    assert "no.example: no policy is cached" in terminal.err
    assert terminal.run("remove", "no.example", "left.example", "--yes") == ExitCode.FAILURE
    assert "removed 1" in terminal.out


def test_remove_of_one_that_cannot_be_read(terminal: Terminal, store: SqlitePolicyStore) -> None:
    with store._writer.transaction() as connection:
        connection.execute("UPDATE body SET content = X'00'")
    assert terminal.run("remove", "enforced.example", "--yes") == 0
    assert "cannot be read" in terminal.err
    assert store.load("enforced.example") is None


# ---- export, import, backup -------------------------------------------------------------


def test_export_and_import(
    terminal: Terminal,
    store: SqlitePolicyStore,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "policies.jsonl"
    assert terminal.run("export", "--out", str(file)) == 0
    assert terminal.out == f"exported 4 policies to {file}\n"
    assert terminal.run("export") == 0
    assert terminal.out == file.read_text()

    elsewhere = Terminal(tmp_path / "elsewhere", capsys)
    elsewhere.directory.mkdir()
    assert elsewhere.run("import", str(file)) == 0
    counts = "imported 3, kept 0 that are here and not older, left out 1 expired, refused 0\n"
    assert elsewhere.out == counts
    copy = SqlitePolicyStore(elsewhere.path)
    assert [e.policy_domain for e in copy.iterate()] == [
        "enforced.example",
        "left.example",
        "tested.example",
    ]
    copy.close()
    assert elsewhere.run("import", str(file)) == 0
    assert "imported 0, kept 3" in elsewhere.out


def test_import_names_faulty_lines(
    terminal: Terminal, store: SqlitePolicyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal.run("export")
    good = terminal.out.splitlines()[0].replace("2025-12-31", "2026-01-01")
    data = f'{good}\nrub\x1b[2Jbish\n{{"version": 9}}\n'.encode()

    class Input:
        buffer = io.BytesIO(data)

    monkeypatch.setattr(sys, "stdin", Input)
    assert terminal.run("import", "-") == ExitCode.DATAERR
    first, second = terminal.err.splitlines()
    assert first.startswith("line 2: not JSON")
    assert second == "line 3: version is 9; this strictmail reads version 1"
    assert "imported 1, kept 0" in terminal.out
    loaded = store.load("enforced.example")
    assert loaded is not None
    assert loaded.fetched_at == NOON


def test_import_of_a_file_that_is_not_there(terminal: Terminal) -> None:
    assert terminal.run("import", "/nonexistent/file") == ExitCode.USAGE
    assert "No such file" in terminal.err


def test_export_to_where_nothing_can_be_written(
    terminal: Terminal, store: SqlitePolicyStore
) -> None:
    assert terminal.run("export", "--out", "/nonexistent/file") == ExitCode.CANTCREAT
    assert "/nonexistent/file: No such file or directory; nothing exported" in terminal.err


def test_a_failed_export_keeps_the_older_one(
    terminal: Terminal,
    store: SqlitePolicyStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(_: object) -> Iterator[str]:
        yield "{}"
        raise OSError(28, "No space left on device")

    file = tmp_path / "policies.jsonl"
    file.write_text("older")
    monkeypatch.setattr("strictmail.store.exchange.export_lines", full)
    assert terminal.run("export", "--out", str(file)) == ExitCode.CANTCREAT
    assert "No space left on device; nothing exported" in terminal.err
    assert file.read_text() == "older"
    assert not list(tmp_path.glob("*.partial"))


def test_backup(terminal: Terminal, store: SqlitePolicyStore, tmp_path: Path) -> None:
    target = tmp_path / "copy.sqlite3"
    assert terminal.run("backup", str(target)) == 0
    assert terminal.out == f"copied 4 policies and all overrides to {target}\n"
    copy = SqlitePolicyStore(target)
    assert copy.count() == 4
    copy.close()
    assert terminal.run("backup", str(tmp_path / "absent" / "copy")) == ExitCode.CANTCREAT
    assert "No such file or directory" in terminal.err


def test_a_newer_schema_is_a_matter_of_configuration(
    terminal: Terminal, store: SqlitePolicyStore
) -> None:
    with store._writer.transaction() as connection:
        connection.execute("INSERT INTO schema_version VALUES (999, '9.9')")
    assert terminal.run("list") == ExitCode.CONFIG
    assert "schema version 999 was written by strictmail 9.9" in terminal.err
