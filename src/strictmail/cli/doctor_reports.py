# SPDX-License-Identifier: Apache-2.0
"""Gathers what `strictmail doctor` says of the way of reports."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from strictmail.core.errors import ConfigError
from strictmail.runtime.health_reports import ReportFacts, judge_reports

if TYPE_CHECKING:
    from strictmail.core.check.facts import PortState
    from strictmail.net.dkim import KeyFinding
    from strictmail.ports import Resolver
    from strictmail.reporter.settings import ReporterSettings
    from strictmail.runtime.config import Config
    from strictmail.runtime.health import Finding

LOOK_SECONDS = 30.0


def check_reports(config: Config, *, offline: bool) -> list[Finding]:
    """The findings; none where nothing is reported."""
    if not config.reporter.contact:
        return []
    from strictmail.cli.composition_reporter import build_settings

    try:
        settings = build_settings(config)
        facts = asyncio.run(_look(config, settings, offline=offline))
    except (ConfigError, OSError) as error:
        facts = ReportFacts(key_error=str(error))
    return list(judge_reports(facts))


async def _look(config: Config, settings: ReporterSettings, *, offline: bool) -> ReportFacts:
    from strictmail.cli.composition import build_resolver
    from strictmail.cli.composition_reporter import build_mailer
    from strictmail.core.tlsrpt.delivery import OutcomeKind
    from strictmail.net.dkim import KeyFinding as Found
    from strictmail.net.dkim import KeyState, look_up_key, wanted_record
    from strictmail.net.mailer import RelayMailer
    from strictmail.runtime.clock import SystemClock

    resolver = build_resolver(config)
    await resolver.start()
    try:
        mailer = build_mailer(config, resolver, SystemClock())
        relay_error: str | None = None
        if isinstance(mailer, RelayMailer) and not offline:
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    outcome = await mailer.check()
                relay_error = "" if outcome.kind is OutcomeKind.DELIVERED else outcome.detail
            except TimeoutError:
                relay_error = f"no answer within {LOOK_SECONDS:g} s"
        port25 = None
        if config.reporter.probe_testing and not offline:
            port25 = await _test_port25(config, resolver)
        keys: dict[str, KeyFinding] = {}
        for identity in settings.identities.values():
            domain = identity.sender.rpartition("@")[2]
            for key in identity.keys:
                name = f"{key.selector}._domainkey.{domain}"
                if offline:
                    keys[name] = Found(KeyState.UNKNOWN, name, wanted_record(key), "not asked")
                elif name not in keys:
                    keys[name] = await look_up_key(resolver, domain, key)
    finally:
        await resolver.close()
    kinds = [{key.algorithm for key in one.keys} for one in settings.identities.values()]
    return ReportFacts(
        keys=tuple(keys.values()),
        ed25519_alone={"ed25519-sha256"} in kinds,
        has_relay=isinstance(mailer, RelayMailer),
        relay_error=relay_error,
        envelope_sender=bool(config.reporter.envelope_sender),
        has_probes=config.reporter.probe_testing,
        port25=port25,
    )


async def _test_port25(config: Config, resolver: Resolver) -> PortState:
    """Whether the MX hosts of large receivers can be connected to."""
    from strictmail.checker.gate import Gate
    from strictmail.cli.composition_check import configured_options
    from strictmail.net.connectto import STRAIGHT
    from strictmail.net.reach import NetReach

    gate = Gate(resolver, NetReach(STRAIGHT), configured_options(config).settings)
    try:
        return await gate.check()
    finally:
        await gate.close()
