# SPDX-License-Identifier: Apache-2.0
"""`strictmail check`: what would happen to mail for a domain, and why; one domain or many."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from strictmail.cli.configured import configured
from strictmail.cli.exitcodes import ExitCode
from strictmail.cli.printing import DURATION, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

    from strictmail.checker.client import CheckOptions
    from strictmail.core.check.result import CheckResult
    from strictmail.core.sts.lifecycle import PolicyEntry
    from strictmail.runtime.config import Config

FORMATS: Final = ("text", "json", "nagios", "prometheus", "markdown", "html")
DEFAULT_WIDTH: Final = 100
AT_ONCE: Final = 8
"""Domains of one command line that are checked at the same time."""


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


@command.command(_RUN, hidden=True)
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
@click.option("--from", "source", metavar="LIST", help="Check the domains of a file; `-`: stdin.")
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


def check_options(config: Config, options: dict[str, Any]) -> CheckOptions:
    """What a check takes from the configuration and from the command line, which counts more."""
    from strictmail.checker.client import CheckOptions
    from strictmail.checker.settings import CheckSettings
    from strictmail.net.smtp import ProbeLimits
    from strictmail.runtime.options import TrustAd

    wanted, dns = config.check, config.dns
    servers = tuple(_server(text) for text in options["resolvers"]) or dns.servers
    trust = {TrustAd.ALWAYS: True, TrustAd.NEVER: False}.get(dns.trust_ad)
    deadline: timedelta = options["timeout"] or wanted.deadline
    return CheckOptions(
        servers=servers,
        trust_ad=trust,
        dns_timeout=dns.timeout.total_seconds(),
        dns_attempts=dns.attempts,
        mx_ca_file=options["ca_file"] or wanted.ca_file or None,
        policy_ca_file=options["ca_file"] or config.policy.ca_file or None,
        connect_to=options["connect_to"],
        ehlo_name=options["ehlo_name"] or wanted.ehlo_name,
        user_agent=config.policy.user_agent,
        fetch_timeout=config.policy.fetch_timeout.total_seconds(),
        limits=ProbeLimits(
            connect=wanted.connect_timeout.total_seconds(),
            greeting=wanted.greeting_timeout.total_seconds(),
            command=wanted.command_timeout.total_seconds(),
        ),
        settings=CheckSettings(
            deadline_seconds=deadline.total_seconds(),
            allow_networks=(*config.policy.allow_networks, *options["networks"]),
            want_probes=not options["no_smtp"],
            connections_per_operator=wanted.operator_connections,
            port25_canaries=wanted.port25_canaries,
        ),
    )


def _server(text: str) -> tuple[str, int]:
    from strictmail.net.dns import DNS_PORT
    from strictmail.runtime.addresses import parse_host_port

    try:
        return parse_host_port(text, default_port=DNS_PORT)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--resolver") from None


@contextlib.contextmanager
def _history(config: Config, file: str | None) -> Any:
    """Gives a function: the policy that senders may hold of a domain, or None."""
    from datetime import UTC, datetime

    from strictmail.checker.history import entry_of, latest
    from strictmail.checker.resultfile import ResultFile
    from strictmail.store.policies import SqlitePolicyStore

    sources: list[Callable[[str], PolicyEntry | None]] = []
    with contextlib.ExitStack() as stack:
        if file is not None:
            earlier = stack.enter_context(ResultFile(file))

            def of_results(domain: str) -> PolicyEntry | None:
                found = earlier.find(domain)
                return entry_of(found) if found is not None else None

            sources.append(of_results)
        if os.access(config.policies_path, os.R_OK):
            store = SqlitePolicyStore(config.policies_path, create=False)
            stack.callback(store.close)
            sources.append(store.load)
        yield lambda domain: latest(domain, datetime.now(UTC), *sources)


async def _check_all(
    config: Config, domains: Sequence[str], options: dict[str, Any]
) -> list[CheckResult]:
    from strictmail.checker.client import CheckClient

    limit = asyncio.Semaphore(AT_ONCE)
    with _history(config, options["history"]) as cached:
        async with CheckClient(check_options(config, options)) as client:

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
    from strictmail.checker.client import CheckClient
    from strictmail.checker.pool import BulkLimits, Ending
    from strictmail.runtime.clock import SystemClock

    wanted = check_options(config, options)
    limits = BulkLimits(
        concurrency=options["concurrency"] or config.check.concurrency,
        # A check has bounds of its own; this one ends a check that hangs.
        domain_deadline=2 * timedelta(seconds=wanted.settings.deadline_seconds),
    )
    is_terminal = sys.stderr.isatty()
    with _history(config, options["history"]) as cached:
        async with CheckClient(wanted) as client:
            summary = await run_bulk(
                lambda domain: client.check(domain, cached(domain)),
                source,
                Path(out),
                clock=SystemClock(),
                limits=limits,
                width=_columns if is_terminal else None,
                show_progress=not options["quiet"],
            )
    if summary.ending is Ending.STOPPED:
        return ExitCode.INTERRUPTED
    complete = summary.ending is Ending.COMPLETE and not summary.tally.failed
    return ExitCode.OK if complete else ExitCode.TEMPFAIL


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
    return output is None and sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def _shows_unicode(output: str | None) -> bool:
    """Whether what reads us takes more than ASCII: a file is UTF-8."""
    encoding = (sys.stdout.encoding or "ascii").lower().replace("-", "")
    return output is not None or encoding in ("utf8", "utf16", "utf32")


def _put(text: str, output: str | None) -> None:
    text = text if text.endswith("\n") else f"{text}\n"
    if output is None:
        sys.stdout.write(text)
        return
    # Whole or not at all: a monitoring system may be reading the file.
    path = Path(output)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(text, "utf-8")
        partial.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def _exit_code(results: Sequence[CheckResult], fail_on: str) -> int:
    from strictmail.checker.render import exit_code
    from strictmail.core.check.result import Severity

    return exit_code(results, None if fail_on == "never" else Severity(fail_on))
