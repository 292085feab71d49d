# SPDX-License-Identifier: Apache-2.0
"""`strictmail config`, and how every command ends."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest

from strictmail import __version__, cli
from strictmail.cli import COMMANDS, run
from strictmail.cli.exitcodes import ExitCode, exit_code_for
from strictmail.core import errors

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def no_configuration_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STRICTMAIL_CONFIG", raising=False)
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setattr("strictmail.runtime.config.DEFAULT_CONFIG_PATH", "/nonexistent")


def test_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "f.toml"
    file.write_text('[cache]\nidle_after = "7d"\n')
    assert run(["config", "show", "--config", str(file)]) == 0
    out = capsys.readouterr().out
    assert f'idle_after = "7d"                                   # {file}:2\n' in out
    assert 'negative_ttl = "5m"                                 # default\n' in out


def test_show_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "show", "--json", "--state-directory", "/x"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["file"] is None
    assert shown["values"][0] == {
        "key": "state_directory",
        "value": "/x",
        "origin": "--state-directory",
    }


def test_check_of_a_good_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "f.toml"
    file.write_text("")
    assert run(["config", "check", str(file)]) == 0
    assert capsys.readouterr().out == f"{file}: good\n"
    assert run(["config", "check"]) == 0
    assert "defaults hold" in capsys.readouterr().out


def test_check_tells_every_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "f.toml"
    file.write_text("[cache]\nidle_after = 7\nidle_befor = 1\n")
    assert run(["config", "check", str(file)]) == 78
    err = capsys.readouterr().err.splitlines()
    assert [line.split(" ")[0] for line in err] == [f"{file}:2:", f"{file}:3:"]
    assert run(["config", "check", "--json", str(file)]) == 78
    found = json.loads(capsys.readouterr().out)
    assert (found["ok"], [problem["line"] for problem in found["problems"]]) == (False, [2, 3])


def test_check_of_a_file_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "check", "/nonexistent/f"]) == 78
    assert capsys.readouterr().err == (
        "strictmail: /nonexistent/f: cannot be read: No such file or directory\n"
    )


def test_a_refused_configuration_ends_any_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "f.toml"
    file.write_text("x = 1\n")
    assert run(["config", "show", "--config", str(file)]) == 78
    err = capsys.readouterr().err
    assert err.startswith(f"strictmail: {file}:1: x: no such option")
    assert err.count("\n") == 1


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    out = capsys.readouterr().out
    for name in COMMANDS:
        assert f"  {name} " in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"strictmail {__version__}\n"


def test_a_mistyped_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["confg"]) == 2
    assert "There is no command 'confg'. Did you mean config?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (errors.ConfigError("f:1: x"), 78, "strictmail: f:1: x"),
        (errors.DomainSyntaxError("no\x1b[31m domain"), 65, "strictmail: no\\x1b[31m domain"),
        (errors.UnreachableError("nobody"), 69, "strictmail: nobody"),
        (errors.StoreUnavailableError("full"), 73, "strictmail: full"),
        (errors.SchemaTooNewError("newer"), 78, "strictmail: newer"),
        (errors.StrictmailError("else"), 1, "strictmail: else"),
        (PermissionError(13, "Permission denied", "/x"), 1, "strictmail: /x: Permission denied"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_how_errors_end(
    error: BaseException,
    code: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    @click.command()
    def fail() -> None:
        raise error

    monkeypatch.setattr(cli.LazyGroup, "get_command", lambda *_: fail)
    assert run(["serve"]) == code
    assert capsys.readouterr().err.strip() == line


def test_every_error_ends_in_some_code() -> None:
    for name in vars(errors):
        kind = getattr(errors, name)
        if isinstance(kind, type) and issubclass(kind, errors.StrictmailError):
            assert isinstance(exit_code_for(kind("x")), ExitCode)


def test_a_reader_that_goes_away_is_met_with_silence() -> None:
    shell = f"{sys.executable} -m strictmail config reference | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout in ("141\n", "0\n")  # 0: the reader lived long enough


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys; from strictmail.cli import run; run(['--help']);"
        "heavy = {'asyncio', 'ssl', 'dns', 'sqlite3', 'cryptography', 'prometheus_client', 'h11',"
        " 'msgspec', 'tomllib', 'strictmail.runtime.config'};"
        "sys.exit(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.stderr in ("", "[]\n")
