# SPDX-License-Identifier: Apache-2.0
"""`strictmail policy`: an operator's word on one next-hop, with a reason and an end.

No action here lets mail go in clear text where the listener's default level would not.
"""

from __future__ import annotations

import json
import sys
from contextlib import closing
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import click

from strictmail.cli.cache import now_utc, open_store, policy_domains
from strictmail.cli.configured import configured
from strictmail.cli.exitcodes import ExitCode
from strictmail.cli.printing import DURATION, instant, printable, span, table
from strictmail.core.overrides import Override, OverrideAction

if TYPE_CHECKING:
    from strictmail.runtime.config import Config

MAX_LIFE: Final = timedelta(days=366)
"""An exception that is to last longer than a year is looked at again."""

MAX_REASON_LENGTH: Final = 200

ACTION_WORDS: Final = {
    OverrideAction.DEFAULT: "its MTA-STS policy is ignored: the MTA's default level applies",
    OverrideAction.ENCRYPT: "mail goes over TLS, the certificate is not checked",
    OverrideAction.SECURE: "mail goes over TLS verified for the named MX hosts, or it waits",
    OverrideAction.DANE_ONLY: "mail goes over TLS verified by DANE, or it waits",
    OverrideAction.DEFER: "mail waits",
}
"""What each action means for mail."""


@click.group(name="policy")
def command() -> None:
    """Override what a domain demands, for a while."""


@command.group()
def override() -> None:
    """Set, list and lift overrides."""


@override.command()
@click.argument("domain")
@click.option(
    "--action",
    required=True,
    type=click.Choice([action.value for action in OverrideAction]),
    help="default: ignore the MTA-STS policy. encrypt: TLS, unverified. secure: TLS verified for "
    "the MX names. dane-only: TLS verified by DANE. defer: the mail waits.",
)
@click.option(
    "--expires", required=True, type=DURATION, metavar="DURATION", help='How long, such as "7d".'
)
@click.option("--reason", required=True, help="Why: `strictmail explain` shows it.")
@click.option(
    "--mx",
    "mx_patterns",
    multiple=True,
    metavar="NAME",
    help="With secure: an MX name to accept, or *.name as in a policy; can be repeated. "
    "Without it, the MX names that DNS has.",
)
@configured
def add(
    config: Config,
    *,
    domain: str,
    action: str,
    expires: timedelta,
    reason: str,
    mx_patterns: tuple[str, ...],
) -> None:
    """Override what DOMAIN demands; an earlier override of it is replaced."""
    now = now_utc()
    (nexthop,) = policy_domains([domain])
    wanted = Override(
        nexthop=nexthop,
        action=OverrideAction(action),
        reason=_checked_reason(reason),
        created_at=now,
        expires_at=now + _checked_life(expires),
        mx_patterns=_checked_patterns(mx_patterns, OverrideAction(action)),
    )
    with closing(open_store(config, create=True)) as store:
        store.save_override(wanted)
    print(f"{nexthop}: {ACTION_WORDS[wanted.action]}, until {instant(wanted.expires_at)}")
    print("a running daemon takes it within seconds; see it with: strictmail explain " + nexthop)


def _checked_reason(reason: str) -> str:
    reason = reason.strip()
    if not reason:
        raise click.BadParameter("say why, for whoever finds it later", param_hint="--reason")
    if len(reason) > MAX_REASON_LENGTH:
        message = f"at most {MAX_REASON_LENGTH} characters"
        raise click.BadParameter(message, param_hint="--reason")
    return reason


def _checked_life(expires: timedelta) -> timedelta:
    if expires < timedelta(seconds=1):
        raise click.BadParameter("it must last at least 1s", param_hint="--expires")
    if expires > MAX_LIFE:
        message = f"at most {MAX_LIFE.days}d; set it again then, if it is still needed"
        raise click.BadParameter(message, param_hint="--expires")
    return expires


def _checked_patterns(texts: tuple[str, ...], action: OverrideAction) -> tuple[str, ...]:
    if texts and action is not OverrideAction.SECURE:
        raise click.BadParameter("only goes with --action secure", param_hint="--mx")
    patterns = []
    for text in texts:
        # RFC 8461 §3.2: a name, or one whole label as wildcard before a name (STS-POL-24).
        star = "*." if text.startswith("*.") else ""
        (name,) = policy_domains([text.removeprefix("*.")])
        patterns.append(star + name)
    return tuple(patterns)


@override.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@configured
def list_(config: Config, *, as_json: bool) -> None:
    """List all overrides, expired ones too, with the time they have left."""
    now = now_utc()
    with closing(open_store(config)) as store:
        overrides = store.overrides()
    if as_json:
        for found in overrides:
            print(json.dumps(_describe(found, now)))
    elif overrides:
        headers = ("DOMAIN", "ACTION", "LEFT", "EXPIRES", "MX", "REASON")
        print("\n".join(table(headers, (_row(found, now) for found in overrides))))
    else:
        print("no overrides")


def _row(found: Override, now: datetime) -> tuple[str, ...]:
    return (
        found.nexthop,
        found.action.value,
        span(found.expires_at - now) if found.is_active(now) else "expired",
        instant(found.expires_at),
        " ".join(found.mx_patterns) or "-",
        found.reason,
    )


def _describe(found: Override, now: datetime) -> dict[str, object]:
    return {
        "domain": found.nexthop,
        "action": found.action.value,
        "mx_patterns": found.mx_patterns,
        "reason": found.reason,
        "created_at": f"{found.created_at:%Y-%m-%dT%H:%M:%SZ}",
        "expires_at": f"{found.expires_at:%Y-%m-%dT%H:%M:%SZ}",
        "active": found.is_active(now),
    }


@override.command()
@click.argument("domains", metavar="DOMAIN...", nargs=-1, required=True)
@configured
def remove(config: Config, *, domains: tuple[str, ...]) -> int:
    """Lift the override of each DOMAIN: what the domain itself demands counts again."""
    names = policy_domains(domains)
    missing = 0
    with closing(open_store(config)) as store:
        for name in names:
            if store.remove_override(name):
                print(f"{name}: override lifted")
            else:
                print(f"{printable(name)}: there is no override", file=sys.stderr)
                missing += 1
    return ExitCode.FAILURE if missing else ExitCode.OK
