# SPDX-License-Identifier: Apache-2.0
"""`strictmail config`: show, check and explain the configuration."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from strictmail.cli.configured import configured
from strictmail.cli.exitcodes import ExitCode

if TYPE_CHECKING:
    from strictmail.runtime.config import Config


@click.group(name="config")
def command() -> None:
    """Show, check and explain the configuration."""


@command.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@configured
def show(config: Config, *, as_json: bool) -> None:
    """Print every value in force and where it comes from."""
    from strictmail.runtime.reference import effective_values, render_effective

    if as_json:
        print(json.dumps({"file": config.path, "values": effective_values(config)}, indent=2))
        return
    print(f"# {config.path or 'no configuration file: all defaults'}")
    print(render_effective(config), end="")


@command.command()
@click.argument("file", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(file: str | None, *, as_json: bool) -> int:
    """Check FILE, or the file that would be used. Exits with 78 when it is refused."""
    from strictmail.runtime.config import check_config, find_config, read_config

    path = find_config(file)
    problems = check_config(read_config(path), file=path)[1] if path else []
    if as_json:
        found = [{"line": problem.line, "message": problem.message} for problem in problems]
        print(json.dumps({"file": path, "ok": not found, "problems": found}, indent=2))
    elif problems:
        for problem in problems:
            print(problem, file=sys.stderr)
    else:
        print(f"{path}: good" if path else "no configuration file: the defaults hold")
    return ExitCode.CONFIG if problems else ExitCode.OK


@command.command()
def reference() -> None:
    """Print what each option means, as markdown."""
    from strictmail.runtime.reference import render_markdown

    print(render_markdown(), end="")


@command.command()
def sample() -> None:
    """Print a commented configuration file with all defaults."""
    from strictmail.runtime.reference import render_sample

    print(render_sample(), end="")
