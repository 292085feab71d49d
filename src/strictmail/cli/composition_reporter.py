# SPDX-License-Identifier: Apache-2.0
"""Builds the reporter out of a configuration."""

from __future__ import annotations

import random
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from strictmail.cli.composition import build_resolver
from strictmail.core.errors import ConfigError
from strictmail.core.tlsrpt.report import Identity
from strictmail.net.dkim import read_key
from strictmail.net.mailer import Relay, RelayMailer, RelayTls
from strictmail.net.secretfile import read_secret
from strictmail.net.upload import HttpsUploader
from strictmail.reporter.making import Maker
from strictmail.reporter.probing import Probing
from strictmail.reporter.schedule import Reporter
from strictmail.reporter.sending import Sender
from strictmail.reporter.settings import DEFAULT_IDENTITY, ReporterSettings, SenderIdentity
from strictmail.runtime.clock import SystemClock
from strictmail.runtime.options_reporter import MailRoute
from strictmail.store.outbox import Outbox
from strictmail.store.sessions import SessionStore
from strictmail.store.unverified import UnverifiedCounts

if TYPE_CHECKING:
    from strictmail.checker.mxlook import MxLooker
    from strictmail.net.dns import DnsResolver
    from strictmail.ports import Clock, ReportMailer, Resolver
    from strictmail.reporter.sending import EventSink
    from strictmail.runtime.config import Config
    from strictmail.runtime.options_reporter import IdentityConfig, ReporterConfig


def build_settings(config: Config) -> ReporterSettings:
    """The reporter's numbers and identities.

    Raises:
        ConfigError: Nothing is to be reported, or a key cannot be used.
    """
    reporter = config.reporter
    if not reporter.contact:
        raise ConfigError(
            "[reporter] has no contact: without one, no reports are made; see strictmail.toml(5)"
        )
    identities = {DEFAULT_IDENTITY: _identity(reporter, reporter)}
    for identity in config.identities:
        identities[identity.name] = _identity(identity, reporter)
    return ReporterSettings(
        identities=identities,
        opt_out=frozenset(reporter.opt_out),
        copy_to=reporter.copy_to,
        spread=reporter.spread,
        per_destination=reporter.per_destination,
        per_host=reporter.per_host,
        workers=reporter.workers,
        host_workers=reporter.host_workers,
        retention=reporter.retention,
        has_mail=reporter.mail is not MailRoute.OFF,
        # Our own sessions with MX hosts are seen by no MTA of ours.
        sessions_of_reports=(
            reporter.sessions_of_reports and reporter.mail in (MailRoute.RELAY, MailRoute.LMTP)
        ),
    )


def _identity(found: ReporterConfig | IdentityConfig, reporter: ReporterConfig) -> SenderIdentity:
    keys: tuple[tuple[str, str], ...] = found.dkim_keys
    if reporter.mail is MailRoute.OFF:
        keys = ()
    try:
        identity = Identity(found.organization, found.contact, reporter.installation)
    except ValueError as error:
        raise ConfigError(f"[reporter] {error}") from None
    return SenderIdentity(
        identity=identity,
        sender=found.sender or found.contact,
        keys=tuple(read_key(selector, path) for selector, path in keys),
        signed_elsewhere=found.signed_by_mta,
    )


def build_mailer(config: Config, resolver: Resolver, clock: Clock) -> ReportMailer | None:
    """The way of reports by mail; None where there is none.

    Raises:
        ConfigError: The password cannot be read.
        OSError: The roots cannot be read.
    """
    reporter = config.reporter
    ehlo_name = config.check.ehlo_name or socket.getfqdn() or "localhost"
    if reporter.mail is MailRoute.OFF:
        return None
    if reporter.mail is MailRoute.DIRECT:
        # Imported late: it needs pyOpenSSL.
        from strictmail.reporter.direct import DirectMailer

        return DirectMailer(
            resolver,
            clock,
            ehlo_name=ehlo_name,
            envelope_sender=reporter.envelope_sender,
            ca_file=config.check.ca_file or None,
            allow_networks=reporter.allow_networks,
        )
    relay = Relay(
        reporter.relay_host,
        reporter.relay_port,
        lmtp=reporter.mail is MailRoute.LMTP,
        tls=RelayTls(reporter.relay_tls.value),
        user=reporter.relay_user,
        password=_password(reporter) if reporter.relay_user else "",
    )
    return RelayMailer(
        relay,
        clock,
        ehlo_name=ehlo_name,
        envelope_sender=reporter.envelope_sender,
        ca_file=reporter.ca_file or None,
    )


def _password(reporter: ReporterConfig) -> str:
    path = reporter.relay_password_file
    lines = read_secret(path, "the password").split(b"\n")
    try:
        password = lines[0].rstrip(b"\r").decode("utf-8")
    except UnicodeDecodeError:
        password = ""
    if not password:
        raise ConfigError(f"{path}: its first line is no password")
    return password


def build_uploader(config: Config, resolver: Resolver, clock: Clock) -> HttpsUploader:
    """The way of reports by HTTPS.

    Raises:
        OSError: The roots cannot be read.
    """
    return HttpsUploader(
        resolver,
        clock,
        ca_file=config.reporter.ca_file or None,
        allow_networks=config.reporter.allow_networks,
    )


def build_looker(config: Config, resolver: Resolver, clock: Clock) -> MxLooker | None:
    """Who visits the MX hosts of domains with a testing policy; None where nobody does.

    Raises:
        ConfigError: The EHLO name is none.
        OSError: The roots cannot be read.
    """
    if not config.reporter.probe_testing:
        return None
    # Imported late: it needs pyOpenSSL.
    from strictmail.checker.mxlook import build_looker as build
    from strictmail.cli.composition_check import configured_options

    options = configured_options(config)
    try:
        return build(
            resolver,
            options.settings,
            clock=clock,
            rng=random.SystemRandom(),
            ca_file=options.mx_ca_file,
        )
    except ValueError as error:
        raise ConfigError(f"[check] {error}") from None


@dataclass(slots=True)
class ReporterParts:
    """A reporter and what it stands on; lives on one loop."""

    reporter: Reporter
    probing: Probing
    store: SessionStore
    outbox: Outbox
    resolver: DnsResolver

    async def replace_adapters(self, config: Config) -> None:
        """After a reload: new adapters and numbers, then the old ones go.

        Raises:
            ConfigError: A key or password cannot be used; everything is as before.
            OSError: No DNS socket, or the roots cannot be read; the same.
        """
        settings = build_settings(config)
        new = await _open_adapters(config, SystemClock())
        reporter = self.reporter
        old, self.resolver = self.resolver, new.resolver
        old_mailer = reporter.sender.mailer
        reporter.maker.resolver = new.resolver
        reporter.maker.settings = reporter.sender.settings = settings
        reporter.sender.mailer, reporter.sender.uploader = new.mailer, new.uploader
        if old_mailer is not None:
            await old_mailer.close()
        await self.probing.replace(new.looker)
        await old.close()

    async def close(self) -> None:
        """Cancel what is under way and close everything."""
        await self.reporter.sender.close()
        await self.probing.close()
        await self.resolver.close()
        self.store.close()


class _Adapters(NamedTuple):
    """What a reporter looks up, sends and looks at hosts with."""

    resolver: DnsResolver
    mailer: ReportMailer | None
    uploader: HttpsUploader
    looker: MxLooker | None


async def _open_adapters(config: Config, clock: Clock) -> _Adapters:
    """Build them on the running loop, all or none.

    Raises:
        ConfigError: A key or password cannot be used.
        OSError: No DNS socket can be opened, or the roots cannot be read.
    """
    resolver = build_resolver(config)
    try:
        await resolver.start()
        await resolver.probe()
        mailer = build_mailer(config, resolver, clock)
        uploader = build_uploader(config, resolver, clock)
        looker = build_looker(config, resolver, clock)
    except BaseException:
        await resolver.close()
        raise
    return _Adapters(resolver, mailer, uploader, looker)


async def open_reporter(
    config: Config, events: EventSink, *, settings: ReporterSettings | None = None
) -> ReporterParts:
    """Build a reporter on the running loop.

    Args:
        config: The configuration.
        events: Where to tell what happens.
        settings: Instead of those of the configuration.

    Raises:
        ConfigError: Nothing is to be reported, or a key or password cannot be used.
        StoreError: The store cannot be opened.
        OSError: No DNS socket can be opened, or the roots cannot be read.
    """
    clock, rng = SystemClock(), random.SystemRandom()
    settings = settings or build_settings(config)
    store = SessionStore(config.sessions_path)
    outbox = Outbox(store)
    try:
        adapters = await _open_adapters(config, clock)
    except BaseException:
        store.close()
        raise
    resolver, mailer, uploader, looker = adapters
    maker = Maker(store, outbox, resolver, clock, rng, settings)
    sender = Sender(outbox, mailer, uploader, settings, clock=clock, rng=rng, events=events)
    probing = Probing(UnverifiedCounts(store), looker, clock=clock, events=events)
    reporter = Reporter(store, outbox, maker, sender, clock=clock, events=events, probing=probing)
    return ReporterParts(reporter, probing, store, outbox, resolver)
