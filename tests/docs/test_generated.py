# SPDX-License-Identifier: Apache-2.0
"""What is generated from the code is what the code says; nothing that users meet is undocumented."""

from __future__ import annotations

import importlib.util
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from strictmail.cli import COMMANDS
from strictmail.cli.exitcodes import MEANINGS, ExitCode
from strictmail.runtime.logevents import EVENTS
from strictmail.runtime.metrics import METRICS
from strictmail.runtime.options import iterate_options

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
SOURCE = "\n".join(path.read_text("utf-8") for path in (ROOT / "src").rglob("*.py"))


def load_generator() -> ModuleType:
    loader = SourceFileLoader("strictmail_generate", str(ROOT / "scripts" / "generate"))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


GENERATOR: Any = load_generator()


@pytest.mark.parametrize("name", GENERATOR.FILES)
def test_the_file_is_what_the_code_says(name: str) -> None:
    assert (ROOT / name).read_text("utf-8") == GENERATOR.FILES[name](), "run scripts/generate"


def test_the_table_of_log_lines_in_the_guide() -> None:
    guide = ROOT / "docs" / "troubleshooting.md"
    text = guide.read_text("utf-8") if guide.exists() else ""
    assert GENERATOR.troubleshooting(text) == text, "run scripts/generate"


def test_the_table_is_put_between_its_marks() -> None:
    text = f"before\n{GENERATOR.BEGIN}\nsuperseded\n{GENERATOR.END}\nafter\n"
    renewed = GENERATOR.troubleshooting(text)
    assert "superseded" not in renewed
    assert renewed.startswith("before\n")
    assert renewed.endswith("\nafter\n")
    assert GENERATOR.troubleshooting(renewed) == renewed


def test_every_option_is_in_the_reference_the_manual_and_the_sample() -> None:
    reference = (ROOT / "docs/reference/configuration.md").read_text("utf-8")
    manual = (ROOT / "man/strictmail.toml.5").read_text("utf-8")
    sample = (ROOT / "packaging/strictmail.toml").read_text("utf-8")
    for _, option in iterate_options():
        assert f"### `{option.name}`" in reference
        assert f"\n\\fB{option.name}\\fP " in manual
        assert f"\n#{option.name} = " in sample


def test_every_command_and_exit_code_is_documented() -> None:
    reference = (ROOT / "docs/reference/cli.md").read_text("utf-8")
    for name in COMMANDS:
        assert f"### `strictmail {name}`" in reference
    assert set(MEANINGS) == set(ExitCode)
    for code in ExitCode:
        assert f"| {int(code)} | {code.name} |" in reference


@pytest.mark.parametrize("name", EVENTS)
def test_every_documented_log_line_is_written_somewhere(name: str) -> None:
    # Once in the table, and at least once where it happens.
    assert SOURCE.count(f'"{name}"') >= 2


@pytest.mark.parametrize("name", sorted(METRICS.keys() - {"strictmail_build_info"}))
def test_every_documented_metric_is_measured_somewhere(name: str) -> None:
    assert SOURCE.count(f'"{name}"') >= 2


def test_help_texts_of_the_table_fit_the_commands() -> None:
    for context, command in GENERATOR.commands():
        assert command.help, context.command_path


@pytest.mark.parametrize("page", ["strictmail.1", "strictmail.toml.5"])
def test_man_pages_have_what_man_pages_have(page: str) -> None:
    text = (ROOT / "man" / page).read_text("utf-8")
    assert text.isascii()
    for section in ("NAME", "SYNOPSIS", "DESCRIPTION", "SEE ALSO"):
        assert f"\n.SH {section}\n" in text
    # No line of text is taken for a request by chance.
    known = {"SH", "SS", "TP", "PP", "B", "I", "BR", "TH", '\\"'}
    for line in text.splitlines():
        assert not line.startswith("'")
        if line.startswith("."):
            assert line[1:].split(" ")[0] in known


def test_roff_text_is_only_text() -> None:
    assert GENERATOR.roff(".B x") == "\\&.B x"
    assert GENERATOR.roff("'x") == "\\&'x"
    assert GENERATOR.roff("a\\b -c `d`") == "a\\eb \\-c \\fBd\\fP"


def test_units_and_configuration_name_the_same_addresses() -> None:
    unit = (ROOT / "packaging/systemd/strictmail-postfix.socket").read_text("utf-8")
    sample = (ROOT / "packaging/strictmail.toml").read_text("utf-8")
    address = next(line for line in unit.splitlines() if line.startswith("ListenStream="))
    assert f'#socket = "inet:{address.partition("=")[2]}"' in sample
    service = (ROOT / "packaging/systemd/strictmail.service").read_text("utf-8")
    for line in ("Type=notify", "Restart=always", "StateDirectory=strictmail"):
        assert f"\n{line}\n" in service
