# SPDX-License-Identifier: Apache-2.0
"""`strictmail lab`: run a small internet full of faults, or print who lives in it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from strictmail.cli.printing import printable, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from strictmail.lab.entries import Outcome, ZooEntry
    from strictmail.lab.net import Lab, LabPorts, ReceivedMessage

DNS_PORT: Final = 10053
HTTPS_PORT: Final = 10443
SMTP_PORT: Final = 10025

_PORT: Final = click.IntRange(0, 65_535)


@click.group(name="lab")
def command() -> None:
    """Run a small internet full of faults to try things on."""


@command.command()
@click.option("--section", metavar="TEXT", help="Only sections whose title contains this.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def zoo(*, section: str | None, as_json: bool) -> None:
    """Print the zoo: each domain, its fault, and what must happen to mail for it."""
    chosen = _sections(section)
    if as_json:
        entries = [e for entries in chosen.values() for e in entries]
        print(json.dumps([describe_entry(entry) for entry in entries], indent=1))
        return
    print("\n".join(_zoo_lines(chosen)))


@command.command()
@click.option("--dns-port", type=_PORT, default=DNS_PORT, show_default=True, help="0: any.")
@click.option("--https-port", type=_PORT, default=HTTPS_PORT, show_default=True, help="0: any.")
@click.option("--smtp-port", type=_PORT, default=SMTP_PORT, show_default=True, help="0: any.")
@click.option("--no-dns", is_flag=True, help="Leave DNS to somebody else; see --zones.")
@click.option(
    "--zones",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Also write the zones as files for a real name server.",
)
@click.option(
    "--directory",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Keep the CA file and what MX hosts receive (messages.jsonl) here.",
)
@click.option("--quiet", is_flag=True, help="Do not print the zoo.")
def up(
    *,
    dns_port: int,
    https_port: int,
    smtp_port: int,
    no_dns: bool,
    zones: str | None,
    directory: str | None,
    quiet: bool,
) -> None:
    """Run the lab until Ctrl-C.

    Prints where the resolver is, the CA file, the zoo, and a line for each message that an MX
    host takes.
    """
    from strictmail.lab.net import LabPorts

    ports = LabPorts(dns=dns_port, https=https_port, smtp=smtp_port)
    asyncio.run(_run(ports, dns=not no_dns, zones=zones, directory=directory, quiet=quiet))


@command.command()
@click.option("--all", "everything", is_flag=True, help="The whole zoo, not a selection.")
@click.option("--no-postfix", is_flag=True, help="Only ask, even where Postfix could send.")
@click.option("--inside", type=click.Path(exists=True, file_okay=False), hidden=True)
def demo(*, everything: bool, no_postfix: bool, inside: str | None) -> int:
    """Show the whole story offline, in a quarter of a minute.

    Good, broken and hostile domains of the zoo are asked about, and the answers held against what
    the standards want. As root, with Postfix installed, a Postfix of the demo's own sends a
    message to each, in a network of its own; nothing on this machine is touched. Exits with 1 when
    anything is not as it should be.
    """
    from strictmail.cli.demo import stage

    if inside is not None:
        return stage.run_inside(Path(inside), everything=everything)
    return stage.run_demo(everything=everything, may_send=not no_postfix)


async def _run(
    ports: LabPorts, *, dns: bool, zones: str | None, directory: str | None, quiet: bool
) -> None:
    from strictmail.lab.net import Lab

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    lab = Lab(
        ports=ports,
        directory=directory,
        dns=dns,
        on_message=lambda message: print(message_line(message), flush=True),
    )
    async with lab:
        if zones is not None:
            from strictmail.lab.zones import write_zones

            write_zones(zones, lab)
        if not quiet:
            print("\n".join(_zoo_lines(_sections(None))))
            print()
        print("\n".join(banner(lab, dns=dns, zones=zones)), flush=True)
        await stop.wait()
    with contextlib.suppress(NotImplementedError):
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def banner(lab: Lab, *, dns: bool, zones: str | None) -> Iterator[str]:
    """What somebody needs to use the lab, a line at a time."""
    host, port = lab.dns_address
    yield f"resolver      {host}:{port} (UDP and TCP)" if dns else "resolver      none (--no-dns)"
    yield f"CA file       {lab.ca_file}"
    yield f"policy hosts  port {lab.https_port}"
    yield f"MX hosts      port {lab.smtp_port}"
    yield f"messages      {lab.messages_file}"
    if zones is not None:
        yield f"zones         {zones}"
    yield ""
    yield "strictmail.toml for this lab:"
    yield ""
    if dns:
        yield "  [dns]"
        yield f'  servers = ["{host}:{port}"]'
        yield ""
    yield "  [policy]"
    yield f'  ca_file = "{lab.ca_file}"'
    yield '  allow_networks = ["127.0.0.0/8"]'
    yield f"  connect_port = {lab.https_port}"
    yield ""
    yield f"{len(lab.entries)} domains are up; Ctrl-C ends them."


def message_line(message: ReceivedMessage) -> str:
    """One line about a message that an MX host took; foreign text is escaped."""
    how = f"over {message.tls_version}" if message.tls else "in the clear"
    to = ", ".join(message.recipients)
    return printable(
        f"received  {message.host}  {how}  for {to}  ({message.size_bytes} octets)", 300
    )


def describe_entry(entry: ZooEntry) -> dict[str, object]:
    """An entry as JSON."""
    return {
        "name": entry.name,
        "domain": entry.domain,
        "fault": entry.fault,
        "requirements": entry.requirements,
        "dane": _describe_outcome(entry.expect.dane),
        "without_dane": _describe_outcome(entry.expect.plain),
        "why": entry.expect.why,
        "result_type": entry.expect.result_type,
    }


def _describe_outcome(outcome: Outcome) -> dict[str, object]:
    return {
        "level": outcome.level,
        "delivery": outcome.delivery,
        "or_delivery": outcome.or_delivery,
        "received_by": outcome.received_by,
    }


def _sections(wanted: str | None) -> Mapping[str, Sequence[ZooEntry]]:
    from strictmail.lab.zoo import SECTIONS

    chosen = {
        title: entries
        for title, entries in SECTIONS.items()
        if wanted is None or wanted.casefold() in title.casefold()
    }
    if not chosen:
        titles = ", ".join(SECTIONS)
        raise click.UsageError(f"no section of the zoo contains {wanted!r}: there are {titles}")
    return chosen


def _zoo_lines(sections: Mapping[str, Sequence[ZooEntry]]) -> Iterator[str]:
    headers = ("DOMAIN", "FAULT", "WITH DANE", "WITHOUT", "REQUIREMENTS")
    for number, (title, entries) in enumerate(sections.items()):
        if number:
            yield ""
        yield f"{title}:"
        rows = (
            (
                entry.domain,
                entry.fault,
                _say_outcome(entry.expect.dane),
                _say_outcome(entry.expect.plain),
                " ".join(entry.requirements),
            )
            for entry in entries
        )
        yield from table(headers, rows)


def _say_outcome(outcome: Outcome) -> str:
    level = "open" if outcome.level is None else str(outcome.level)
    return f"{level}: {outcome.delivery}"
