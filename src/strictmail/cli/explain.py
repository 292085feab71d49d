# SPDX-License-Identifier: Apache-2.0
"""`strictmail explain`: what a domain demands, in words."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from strictmail.checker.inputs import domain_meant
from strictmail.cli.configured import configured
from strictmail.cli.exitcodes import ExitCode
from strictmail.core.decision import Level, ListenerProfile
from strictmail.core.explain import decision_to_json, explain_lines, printable

if TYPE_CHECKING:
    from strictmail.core.decision import Decision
    from strictmail.runtime.config import Config

LEVELS = [
    str(level) for level in (Level.MAY, Level.ENCRYPT, Level.DANE, Level.DANE_ONLY, Level.SECURE)
]


@click.command("explain")
@click.argument("nexthop")
@click.option("--listener", "name", metavar="NAME", help="As this listener; default: the first.")
@click.option("--dane/--no-dane", default=None, help="As an MTA that does DANE, or does not.")
@click.option("--default-level", type=click.Choice(LEVELS), help="The MTA's default TLS level.")
@click.option("--fresh", is_flag=True, help="Look everything up anew; use no cached policy.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@configured
def command(
    config: Config,
    nexthop: str,
    name: str | None,
    dane: bool | None,
    default_level: str | None,
    fresh: bool,
    as_json: bool,
) -> int:
    """Say in words what NEXTHOP demands of this sender, and why, with the RFC's section.

    Uses the policies that the daemon has cached, and looks up the rest now. Exits with 75
    when the answer is that the mail waits.
    """
    meant = domain_meant(nexthop)
    if meant:
        raise click.UsageError(f"{printable(nexthop)} is no next-hop; try its domain: {meant}")
    profile = _profile(config, name, dane, default_level)
    decision = asyncio.run(_decide(config, nexthop, profile, fresh=fresh))
    if as_json:
        print(json.dumps(decision_to_json(decision), indent=2))
    else:
        print("\n".join(explain_lines(decision, datetime.now(UTC))))
    return ExitCode.TEMPFAIL if decision.level is Level.DEFER else ExitCode.OK


def _profile(
    config: Config,
    name: str | None,
    dane: bool | None,
    default_level: str | None,
) -> ListenerProfile:
    from strictmail.cli.query import _listener

    listener = _listener(config, name)
    level = Level(default_level) if default_level else listener.default_level
    return ListenerProfile(level, listener.dane if dane is None else dane)


class _Quiet:
    """Log lines go nowhere: the command says what there is to say."""

    def emit(self, name: str, /, **fields: Any) -> None:
        """Ignore the event, except for a fault of our own."""
        if name == "internal-error":
            print(f"strictmail: {printable(str(fields.get('error')))}", file=sys.stderr)


async def _decide(
    config: Config, nexthop: str, profile: ListenerProfile, *, fresh: bool
) -> Decision:
    from strictmail.cli.composition import open_engine
    from strictmail.store.memory import MemoryPolicyStore

    store = MemoryPolicyStore()
    if not fresh:
        _copy_cached(config, nexthop, store)
    parts = await open_engine(config, _Quiet(), store)
    try:
        ruling = await parts.engine.rule(nexthop, profile)
        return ruling.decision
    finally:
        await parts.close()


def _copy_cached(config: Config, nexthop: str, store: Any) -> None:
    """Copy what the daemon knows of one domain, so that nothing is written here."""
    from pathlib import Path

    from strictmail.core.errors import NexthopSyntaxError
    from strictmail.core.nexthop import parse_nexthop
    from strictmail.store.policies import SqlitePolicyStore

    try:
        domain = parse_nexthop(nexthop).domain
    except NexthopSyntaxError:
        return
    if not Path(config.policies_path).exists():
        return
    daemon_store = SqlitePolicyStore(config.policies_path)
    try:
        entry = daemon_store.load(domain)
        if entry is not None:
            store.save([entry])
        for override in daemon_store.overrides():
            if override.nexthop == domain:
                store.save_override(override)
    finally:
        daemon_store.close()
