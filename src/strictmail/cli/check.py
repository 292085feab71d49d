# SPDX-License-Identifier: Apache-2.0
"""`strictmail check`: what would happen to mail for a domain, and why; one domain or many."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from strictmail.cli.composition_check import check_options, history, opened
from strictmail.cli.configured import configured
from strictmail.cli.exitcodes import ExitCode
from strictmail.cli.printing import DURATION, printable
from strictmail.cli.writing import whole_file
from strictmail.core.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from strictmail.core.check.result import CheckResult, Severity
    from strictmail.runtime.config import Config

FORMATS: Final = ("text", "json", "nagios", "prometheus", "markdown", "html")
DEFAULT_WIDTH: Final = 100
AT_ONCE: Final = 8
"""Domains of one command line that are checked at the same time."""


class CheckContext(click.Context):
    """Of the check itself, which nobody calls `run`."""

    @property
    def command_path(self) -> str:
        """As it is typed: `strictmail check`."""
        return self.parent.command_path if self.parent is not None else super().command_path


class CheckCommand(click.Command):
    """The check itself."""

    context_class = CheckContext


class CheckGroup(click.Group):
    """`check DOMAIN...`, with `check diff` and `check stats` beside it.

    What is no name of a sub-command belongs to the check itself. A domain of a single label that
    is called like one can be given with a final dot.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the check itself where no sub-command is named."""
        is_help = bool(args) and args[0] in ctx.help_option_names
        if not is_help and (not args or args[0] not in self.commands):
            args = [_RUN, *args]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """The usage of the check itself."""
        return self.commands[_RUN].collect_usage_pieces(ctx)

    def shown_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The options of the check itself: what help and reference show."""
        return self.commands[_RUN].get_params(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the options of the check itself, then the sub-commands."""
        self.commands[_RUN].format_options(ctx, formatter)
        self.format_commands(ctx, formatter)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Those with a name of their own."""
        return [name for name in super().list_commands(ctx) if name != _RUN]


_RUN: Final = "run"


@click.group(
    "check",
    cls=CheckGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
)
def command() -> None:
    """Say what would happen to mail for DOMAIN, for each kind of sender, and what to change.

    Looks at MX hosts, certificates, DNSSEC, MTA-STS, DANE, TLSRPT and the name servers; sends no
    mail. Exits with 0 when all is well, 1 on warnings, 2 on critical findings, 3 where too little
    could be seen (see --fail-on).

    Many domains: --from LIST --out RESULTS. Whatever ends such a run, the same command goes on
    where it stopped.
    """


@command.command(_RUN, cls=CheckCommand, hidden=True)
@click.argument("domains", nargs=-1, metavar="DOMAIN...")
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="text",
    show_default=True,
    help="How the result is written.",
)
@click.option("--output", metavar="FILE", help="Write the result to FILE instead.")
@click.option("--details", is_flag=True, help="Also show certificates, ciphers and what is fine.")
@click.option(
    "--fail-on",
    type=click.Choice(["warning", "unknown", "critical", "never"]),
    default="warning",
    show_default=True,
    help="The least severity that makes the exit code other than 0.",
)
@click.option(
    "--from",
    "source",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
    metavar="LIST",
    help="Check the domains of a file; `-`: stdin.",
)
@click.option(
    "--out",
    metavar="RESULTS",
    help="With --from: append a line of JSON for each domain; those it has are not checked again.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 10_000),
    metavar="N",
    help="Domains of a list checked at the same time; default: check.concurrency.",
)
@click.option("--quiet", is_flag=True, help="No progress bar.")
@click.option(
    "--resolver",
    "resolvers",
    multiple=True,
    metavar="ADDRESS[:PORT]",
    help="Ask this validating resolver; may be given more than once.",
)
@click.option("--ca-file", metavar="FILE", help="Trusted roots, for MX and policy hosts.")
@click.option(
    "--connect-to",
    multiple=True,
    metavar="HOST1:PORT1:HOST2:PORT2",
    help="Connect to HOST2:PORT2 where HOST1:PORT1 is meant, as with curl; empty: any, the same.",
)
@click.option(
    "--allow-network",
    "networks",
    multiple=True,
    metavar="NETWORK",
    help="Connect into this network although it is not public: a lab, a staging system.",
)
@click.option("--ehlo-name", metavar="NAME", help="What to say in EHLO.")
@click.option("--timeout", type=DURATION, metavar="TIME", help="For one domain, such as 60s.")
@click.option(
    "--history",
    type=click.Path(exists=True, dir_okay=False),
    metavar="RESULTS",
    help="Earlier results: what senders may have cached then is taken into account.",
)
@click.option("--no-smtp", is_flag=True, help="Connect to no MX host: only DNS and HTTPS.")
@click.option(
    "--colour",
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="Colours: auto is for terminals, unless $NO_COLOR is set.",
)
@configured
def run(config: Config, /, domains: tuple[str, ...], **options: Any) -> int:
    """Check domains."""
    if options["source"] is not None or options["out"] is not None:
        return _run_list(config, domains, options)
    if not domains:
        raise click.UsageError("Which domain? Or --from LIST --out RESULTS for many.")
    names = [_read(domain) for domain in domains]
    results = asyncio.run(_check_all(config, names, options))
    _write(results, options)
    return _exit_code(results, options["fail_on"])


@command.command("diff")
@click.argument("old", type=click.Path(exists=True, dir_okay=False))
@click.argument("new", type=click.Path(exists=True, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def diff(old: str, new: str, *, as_json: bool) -> int:
    """Say what changed between two files of results. Exits with 1 when something got worse."""
    from strictmail.checker.diff import diff_files, render_diff

    found = diff_files(old, new)
    print(render_diff(found, "json" if as_json else "text"))
    return ExitCode.FAILURE if found.got_worse else ExitCode.OK


@command.command("stats")
@click.argument("results", type=click.Path(exists=True, dir_okay=False))
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "svg", "html"]),
    default="text",
    show_default=True,
    help="A table, JSON, a picture, or a page with both.",
)
@click.option("--output", metavar="FILE", help="Write to FILE instead.")
def stats(results: str, form: str, output: str | None) -> int:
    """Say how many of the checked domains are protected, and how."""
    from strictmail.checker.stats import collect_stats, render_stats

    _put(render_stats(collect_stats(results), form), output)
    return ExitCode.OK


def _read(text: str) -> str:
    """The domain that somebody typed; a note on standard error where it took a guess."""
    from strictmail.checker.inputs import read_domain

    meant = read_domain(text, exists=os.path.exists)
    if meant.note:
        print(f"strictmail: {printable(meant.note)}", file=sys.stderr)
    return meant.domain


async def _check_all(
    config: Config, domains: Sequence[str], options: dict[str, Any]
) -> list[CheckResult]:
    limit = asyncio.Semaphore(AT_ONCE)
    with history(config, options["history"]) as cached:
        async with opened(check_options(config, options)) as client:

            async def one(domain: str) -> CheckResult:
                async with limit:
                    return await client.check(domain, cached(domain))

            return list(await asyncio.gather(*map(one, dict.fromkeys(domains))))


def _run_list(config: Config, domains: tuple[str, ...], options: dict[str, Any]) -> int:
    source, out = options["source"], options["out"]
    if source is None or out is None:
        missing = "--out RESULTS" if out is None else "--from LIST"
        raise click.UsageError(f"A list of domains needs both --from and --out: add {missing}.")
    if domains:
        raise click.UsageError("Either domains or --from LIST, not both.")
    from strictmail.runtime.eventloop import new_event_loop

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(_check_list(config, source, out, options))


async def _check_list(config: Config, source: str, out: str, options: dict[str, Any]) -> int:
    from datetime import timedelta

    from strictmail.checker.bulk import run_bulk
    from strictmail.checker.pool import BulkLimits, Ending
    from strictmail.checker.render.exits import code_of, severities_of
    from strictmail.runtime.clock import SystemClock
    from strictmail.runtime.garbage import collect_seldom

    wanted = check_options(config, options)
    limits = BulkLimits(
        concurrency=options["concurrency"] or config.check.concurrency,
        # A check has bounds of its own; this one ends a check that hangs.
        domain_deadline=2 * timedelta(seconds=wanted.settings.deadline_seconds),
    )
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    found: set[Severity] = set()
    with history(config, options["history"]) as cached:
        async with opened(wanted) as client:

            async def one(domain: str) -> CheckResult:
                result = await client.check(domain, cached(domain))
                found.update(severities_of(result))
                return result

            collect_seldom()
            summary = await run_bulk(
                one,
                source,
                Path(out),
                clock=SystemClock(),
                limits=limits,
                width=_columns if is_terminal else None,
                show_progress=not options["quiet"],
            )
    if summary.ending is Ending.STOPPED:
        return ExitCode.INTERRUPTED
    if summary.ending is not Ending.COMPLETE or summary.tally.failed:
        return ExitCode.TEMPFAIL
    least = _least(options["fail_on"])
    if summary.tally.earlier and least is not None:
        found |= _found_earlier(out, found)
    return code_of(found, least, refused=summary.tally.faulty)


def _found_earlier(out: str, found: set[Severity]) -> set[Severity]:
    """What is in the file by now; no further than what decides the exit code."""
    from strictmail.checker.render.exits import severities_of
    from strictmail.checker.resultfile import ResultFile
    from strictmail.core.check.result import Severity

    seen = set(found)
    with ResultFile(out) as file:
        for result in file.results_as_written():
            if Severity.CRITICAL in seen:
                break
            seen |= severities_of(result)
    return seen


def _columns() -> int:
    return shutil.get_terminal_size((DEFAULT_WIDTH, 24)).columns


def _write(results: Sequence[CheckResult], options: dict[str, Any]) -> None:
    from strictmail.checker.render import render

    text = render(
        results,
        options["form"],
        width=_columns(),
        colour=_wants_colour(options["colour"], options["output"]),
        details=options["details"],
        ascii_only=not _shows_unicode(options["output"]),
    )
    _put(text, options["output"])


def _wants_colour(wish: str, output: str | None) -> bool:
    if wish != "auto":
        return wish == "always"
    if output is not None or os.environ.get("NO_COLOR"):
        return False
    # There is no standard output where the caller closed it.
    return sys.stdout is not None and sys.stdout.isatty()


def _shows_unicode(output: str | None) -> bool:
    """Whether what reads us takes more than ASCII: a file is UTF-8."""
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    return output is not None or encoding.lower().replace("-", "") in ("utf8", "utf16", "utf32")


def _put(text: str, output: str | None) -> None:
    text = text if text.endswith("\n") else f"{text}\n"
    try:
        if output is None:
            print(text, end="", flush=True)
            return
        with whole_file(output) as file:
            file.write(text)
    except BrokenPipeError:
        raise
    except OSError as error:
        # Not 1, as other failures end: that would be a warning about the domain.
        where = "standard output" if output is None else output
        raise StoreUnavailableError(
            f"{where} cannot be written: {error.strerror or error}"
        ) from error


def _exit_code(results: Sequence[CheckResult], fail_on: str) -> int:
    from strictmail.checker.render import exit_code

    return exit_code(results, _least(fail_on))


def _least(fail_on: str) -> Severity | None:
    from strictmail.core.check.result import Severity

    return None if fail_on == "never" else Severity(fail_on)
