# SPDX-License-Identifier: Apache-2.0
"""`strictmail check` as people and other programs use it: a lab in a thread, the command before it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

import strictmail
from strictmail.cli import run
from strictmail.cli.exitcodes import ExitCode
from strictmail.core.check.result import Severity
from strictmail.core.errors import DomainSyntaxError
from strictmail.lab.net import Lab
from strictmail.lab.zoo import ZOO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

NAMES = frozenset(
    {"good", "both", "both-partial", "policy-404", "no-policy-no-starttls", "txt-absent"}
)
DOMAINS = {entry.name: entry.domain for entry in ZOO if entry.name in NAMES}

SECONDS = 60.0


@dataclass(frozen=True)
class Place:
    """A running lab, and the options that lead there."""

    lab: Lab
    options: tuple[str, ...]

    def command(self, *args: str) -> list[str]:
        return [sys.executable, "-W", "error", "-m", "strictmail", "check", *self.options, *args]

    def check(self, *args: str) -> int:
        return run(["check", *self.options, *args])

    def says(self, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*args), capture_output=True, text=True, timeout=SECONDS, check=False
        )


@contextmanager
def running(lab: Lab) -> Iterator[None]:
    """A lab with a loop of its own, so that whoever asks may block."""
    ready = threading.Event()
    stop: asyncio.Event
    loop: asyncio.AbstractEventLoop

    async def live() -> None:
        nonlocal stop, loop
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        async with lab:
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(live(),))
    thread.start()
    try:
        assert ready.wait(SECONDS)
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with running(lab := Lab(zoo=[entry for entry in ZOO if entry.name in NAMES])):
        host, port = lab.dns_address
        empty = tmp_path_factory.mktemp("state")
        yield Place(
            lab,
            (
                *("--state-directory", str(empty), "--ehlo-name", "check.test"),
                *("--resolver", f"{host}:{port}", "--ca-file", lab.ca_file),
                *(
                    "--connect-to",
                    f":443::{lab.https_port}",
                    "--connect-to",
                    f":25::{lab.smtp_port}",
                ),
                *("--connect-to", f":53:{host}:{port}", "--allow-network", "127.0.0.0/8"),
            ),
        )


@pytest.fixture(autouse=True)
def _no_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "strictmail.toml"
    file.write_text("")
    monkeypatch.setenv("STRICTMAIL_CONFIG", str(file))


# ---- one domain -------------------------------------------------------------------------------

CODES = {"policy-404": 2, "both-partial": 1}


@pytest.mark.parametrize(("name", "code"), CODES.items())
def test_the_page_and_how_it_ends(
    place: Place, name: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert place.check(DOMAINS[name]) == code
    printed = capsys.readouterr().out
    assert printed.startswith(f"{DOMAINS[name]}\n")
    assert "\x1b" not in printed
    assert max(map(len, printed.splitlines())) < 300
    assert place.check("--fail-on", "never", DOMAINS[name]) == 0


@pytest.mark.parametrize("form", ["text", "json", "nagios", "prometheus", "markdown", "html"])
def test_each_format_has_every_domain_once(
    place: Place, form: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked = [DOMAINS["both"], DOMAINS["policy-404"], DOMAINS["both"]]
    assert place.check("--format", form, *asked) == 2
    printed = capsys.readouterr().out
    assert all(domain in printed for domain in asked)
    if form == "json":
        assert [json.loads(line)["domain"] for line in printed.splitlines()] == asked[:2]
    file = tmp_path / "result"
    assert place.check("--format", form, "--output", str(file), *asked) == 2
    assert capsys.readouterr().out == ""
    assert all(domain in file.read_text("utf-8") for domain in asked)


def test_without_smtp_no_mx_host_is_connected_to(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    # Port 1 is closed, and the first route counts: whatever goes to port 25 shows as refused.
    closed = ("--connect-to", ":25:127.0.0.1:1")
    run(["check", *closed, *place.options, "--no-smtp", "--format", "json", DOMAINS["both"]])
    result = json.loads(capsys.readouterr().out)
    (host,) = result["hosts"]
    assert {address["unknown"] for address in host["addresses"]} == {"skipped"}
    assert "ECONNREFUSED" not in json.dumps(result["findings"])


def test_what_is_no_domain_is_refused_with_the_way_out(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert place.check("exa\x1b[31mmple.com") == ExitCode.DATAERR
    said = capsys.readouterr().err
    assert "\x1b" not in said
    assert "cannot stand in a domain name" in said


def test_what_was_meant_is_said(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert place.check("--fail-on", "never", f"https://user@{DOMAINS['both']}:443/x") == 0
    seen = capsys.readouterr()
    assert seen.out.startswith(DOMAINS["both"])
    assert f"a URL: checking {DOMAINS['both']}" in seen.err


MISTAKES = {
    "no domain": ((), ExitCode.USAGE, "Which domain?"),
    "no time": (("--timeout", "0s", "x.test"), ExitCode.USAGE, "nothing can be seen in no time"),
    "resolver": (("--resolver", "x", "x.test"), ExitCode.USAGE, "is not an IP address"),
    "network": (("--allow-network", "10.0.0.1/8", "x.test"), ExitCode.USAGE, 'mean "10.0.0.0/8"?'),
    "connect": (("--connect-to", "x", "x.test"), ExitCode.DATAERR, "3 more `:` needed"),
    "roots": (("--ca-file", "/nonexistent", "x.test"), ExitCode.CONFIG, "/nonexistent: No such"),
    "no roots": (("--ca-file", __file__, "x.test"), ExitCode.CONFIG, "test_check.py: "),
    "name": (("--ehlo-name", "a b", "x.test"), ExitCode.CONFIG, "the EHLO name is"),
    "history": (("--history", "/nonexistent", "x.test"), ExitCode.USAGE, "does not exist"),
    "list": (("--from", "/nonexistent", "--out", "x"), ExitCode.USAGE, "does not exist"),
    "half of a list": (("--out", "x"), ExitCode.USAGE, "add --from LIST"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_mistakes_on_the_command_line(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    args, code, said = MISTAKES[what]
    assert run(["check", "--resolver", "127.0.0.1:1", *args]) == code
    shown = capsys.readouterr().err
    assert said in shown
    assert "check run" not in shown


# ---- where it goes ----------------------------------------------------------------------------


def test_a_file_takes_the_place_of_the_earlier_one(place: Place, tmp_path: Path) -> None:
    file, link = tmp_path / "page.html", tmp_path / "link.html"
    file.write_text("earlier")
    link.symlink_to(file.name)
    place.check("--format", "html", "--output", str(link), DOMAINS["both"])
    assert link.is_symlink()
    assert file.read_text("utf-8").startswith("<!doctype html>")
    assert {entry.name for entry in tmp_path.iterdir()} == {
        *(file.name, link.name, "strictmail.toml")
    }


def test_a_pipe_is_written_to_and_not_replaced(place: Place, tmp_path: Path) -> None:
    # As /dev/null and /dev/stdout: a file in their place would break every other program.
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE, text=True) as cat:
        place.check("--format", "nagios", "--output", str(pipe), DOMAINS["both-partial"])
        assert cat.stdout is not None
        assert cat.stdout.read().startswith("STRICTMAIL WARNING - ")
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.parametrize("target", ["/nonexistent/page", "/", "/dev/full"])
def test_what_cannot_be_written_is_no_warning_about_the_domain(
    place: Place, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert place.check("--output", target, DOMAINS["both-partial"]) == ExitCode.CANTCREAT
    assert f"strictmail: {target} cannot be written: " in capsys.readouterr().err


def test_a_full_disk_keeps_the_earlier_file(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "page"
    file.write_text("earlier")
    real = os.replace

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.os.replace", full)
    assert place.check("--output", str(file), DOMAINS["both"]) == ExitCode.CANTCREAT
    monkeypatch.setattr("pathlib.os.replace", real)
    assert file.read_text() == "earlier"
    assert {entry.name for entry in tmp_path.iterdir()} == {"page", "strictmail.toml"}


def test_a_reader_that_goes_away_is_met_with_silence(place: Place) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as gone:
        ended = subprocess.run(
            place.command(DOMAINS["both"]),
            stdout=gone,
            stderr=subprocess.PIPE,
            timeout=SECONDS,
            check=False,
        )
    assert ended.returncode == ExitCode.PIPE
    assert ended.stderr == b""


@pytest.mark.parametrize("form", ["text", "json"])
def test_without_standard_output(place: Place, form: str) -> None:
    words = " ".join(
        f"'{word}'" for word in place.command("--format", form, DOMAINS["both-partial"])
    )
    ended = subprocess.run(
        ["sh", "-c", f"{words} >&-"], stderr=subprocess.PIPE, timeout=SECONDS, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr == b""


def test_ctrl_c() -> None:
    # A name server that takes questions and says nothing.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.settimeout(SECONDS)
        resolver = f"127.0.0.1:{silent.getsockname()[1]}"
        command = [sys.executable, "-m", "strictmail", "check", "--resolver", resolver, "x.test"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as check:
            silent.recv(512)
            check.send_signal(signal.SIGINT)
            out, err = check.communicate(timeout=SECONDS)
    assert check.returncode == ExitCode.INTERRUPTED
    assert (out, err) == (b"", b"")


# ---- history ----------------------------------------------------------------------------------


def test_what_senders_may_hold_from_before(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tmp_path / "before.jsonl"
    domain = DOMAINS["both"]
    place.check("--format", "json", "--output", str(before), domain)
    text = before.read_text().replace("mode: enforce", "mode: testing")
    before.write_text(text.replace('"mode":"enforce"', '"mode":"testing"'))
    assert place.check("--history", str(before), "--format", "json", domain) == 1
    result = json.loads(capsys.readouterr().out)
    assert "cached" in {sender["sender"] for sender in result["senders"]}


@pytest.mark.parametrize("broken", [b"no database at all, and long enough to look at" * 100, b""])
def test_a_broken_cache_of_this_machine_is_no_reason_not_to_check(
    place: Place, tmp_path: Path, broken: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "policies.sqlite3").write_bytes(broken)
    options = list(place.options)
    options[1] = str(tmp_path)
    assert run(["check", *options, DOMAINS["both-partial"]]) == 1
    seen = capsys.readouterr()
    assert seen.out.startswith(DOMAINS["both-partial"])
    assert ("is not known from it" in seen.err) is bool(broken)


# ---- lists ------------------------------------------------------------------------------------


def test_a_list_and_what_changed(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed, out = tmp_path / "list", tmp_path / "out.jsonl"
    listed.write_bytes(
        b"\xef\xbb\xbf" + "\r\n".join(["# ours", *DOMAINS.values(), "a b", "1.2.3.4"]).encode()
    )
    args = ("--from", str(listed), "--out", str(out), "--fail-on", "never", "--quiet")
    place.check(*args)
    said = capsys.readouterr().err
    assert "line 8: " in said
    assert "line 9: " in said
    lines = [json.loads(line) for line in out.read_text("ascii").splitlines()]
    assert {line["domain"] for line in lines} == set(DOMAINS.values())
    place.check(*args)
    assert "0 domains checked" in capsys.readouterr().err
    assert run(["check", "diff", str(out), str(out)]) == 0
    capsys.readouterr()
    assert run(["check", "stats", "--format", "json", str(out)]) == 0
    assert json.loads(capsys.readouterr().out)["domains"] == len(DOMAINS)


# ---- from Python ------------------------------------------------------------------------------


def options(place: Place) -> strictmail.CheckOptions:
    from strictmail.checker.settings import CheckSettings

    host, port = place.lab.dns_address
    return strictmail.CheckOptions(
        servers=((host, port),),
        mx_ca_file=place.lab.ca_file,
        policy_ca_file=place.lab.ca_file,
        connect_to=(
            *(f":443::{place.lab.https_port}", f":25::{place.lab.smtp_port}"),
            f":53:{host}:{port}",
        ),
        settings=CheckSettings(ehlo_name="api.test", allow_networks=("127.0.0.0/8",)),
    )


def test_one_check_from_a_program(place: Place) -> None:
    result = strictmail.check(f"postmaster@{DOMAINS['both-partial']}", options(place))
    assert result.domain == DOMAINS["both-partial"]
    assert result.status is Severity.WARNING
    with pytest.raises(DomainSyntaxError):
        strictmail.check("a b", options(place))


async def test_several_from_a_program_share_what_they_see(place: Place) -> None:
    async with strictmail.CheckClient(options(place)) as client:
        results = await asyncio.gather(*map(client.check, DOMAINS.values()))
    assert [result.domain for result in results] == list(DOMAINS.values())


async def test_a_client_that_cannot_begin_leaves_nothing_open(place: Place) -> None:
    from dataclasses import replace

    with pytest.raises(OSError, match="/nonexistent"):
        async with strictmail.CheckClient(replace(options(place), mx_ca_file="/nonexistent")):
            pass
