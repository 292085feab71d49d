# SPDX-License-Identifier: Apache-2.0
"""The command line: one module for each command, loaded when it is called.

Knows the names of the commands and how each error ends. `strictmail --help` loads none of them.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Final, NoReturn

import click

from strictmail import __version__
from strictmail.cli.exitcodes import ExitCode, exit_code_for
from strictmail.core.errors import StrictmailError

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS: Final[dict[str, str]] = {
    "serve": "Answer MTAs: run the daemon.",
    "query": "Ask the running daemon as an MTA would.",
    "explain": "Say in words what a domain demands, and why.",
    "check": "Say what would happen to mail for a domain, and what to change.",
    "cache": "Look at the cached policies, refresh or remove them.",
    "policy": "Override what a domain demands, for a while.",
    "report": "Look at TLS reports, send them, stop them.",
    "doctor": "Check this machine: resolver, MTA, clock, rights.",
    "config": "Show, check and explain the configuration.",
    "lab": "Run a small internet full of faults to try things on.",
}
"""Commands in the order of the help; module `strictmail.cli.<name>` has each as `command`."""


class LazyGroup(click.Group):
    """A group that imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"strictmail.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which was meant."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            ctx.fail(f"There is no command {args[0][:40]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="strictmail", message="%(prog)s %(version)s")
def group() -> None:
    """This mail travels over verified TLS, or it does not travel."""


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end the process with its exit code."""
    code = run(args)
    try:
        if sys.stdout is not None:  # the caller may have closed it
            sys.stdout.flush()
    except BrokenPipeError:
        code = _on_broken_pipe()
    sys.exit(code)


def run(args: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        args: Without the program's name; None: the process's.

    Returns:
        The exit code. A command returns its own (an int), or None for OK.
    """
    try:
        return _invoke(list(sys.argv[1:] if args is None else args))
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    except StrictmailError as error:
        return _complain(str(error), exit_code_for(error))
    except BrokenPipeError:
        return _on_broken_pipe()
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _complain(f"{place}{error.strerror or error}", ExitCode.FAILURE)


def _invoke(args: list[str]) -> int:
    # Not `group.main`: it ends the process by itself when the reader of the output goes away.
    try:
        with group.make_context("strictmail", args) as context:
            result = group.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    return result if isinstance(result, int) else ExitCode.OK


def _complain(message: str, code: ExitCode) -> ExitCode:
    """One line on standard error."""
    from strictmail.runtime.logs import escape

    print(f"strictmail: {escape(message, limit=2000)}", file=sys.stderr)
    return code


def _on_broken_pipe() -> ExitCode:
    """Nobody reads any more: be quiet, at interpreter shutdown too."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    return ExitCode.PIPE
