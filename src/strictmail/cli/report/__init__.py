# SPDX-License-Identifier: Apache-2.0
"""`strictmail report`: the TLS reports of this installation, and the sessions that they count."""

from __future__ import annotations

import importlib
from typing import Final

import click

SUBCOMMANDS: Final[dict[str, tuple[str, str]]] = {
    "list": ("listing", "Show reports and what became of them."),
    "show": ("show", "Show one report, its deliveries and what it says."),
    "render": ("render", "Write a report to standard output: JSON, gzip or mail."),
    "send": ("send", "Make the reports that are due, and send them, in the foreground."),
    "resend": ("resend", "Let reports be sent again."),
    "import-log": ("importlog", "Count the sessions that a Postfix log proves."),
    "suppress": ("suppress", "Leave destinations alone for a while, or no longer."),
}
"""Name -> module of this package, which has it as `command`; and its line in the help."""


class LazyReportGroup(click.Group):
    """A group that imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names, in the order of the help."""
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import a command."""
        if cmd_name not in SUBCOMMANDS:
            return None
        module = importlib.import_module(f"strictmail.cli.report.{SUBCOMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in SUBCOMMANDS.items()])


@click.command("report", cls=LazyReportGroup)
def command() -> None:
    """Look at the TLS reports that are made here, send them, stop them (RFC 8460)."""
