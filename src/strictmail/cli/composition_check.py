# SPDX-License-Identifier: Apache-2.0
"""What `strictmail check` is made of: options, a client, and what is known from before."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any, Final

import click

from strictmail.core.errors import ConfigError, StoreError, SyntaxFault
from strictmail.core.explain import printable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from datetime import timedelta

    from strictmail.checker.client import CheckClient, CheckOptions
    from strictmail.core.sts.lifecycle import PolicyEntry
    from strictmail.runtime.config import Config

    History = Callable[[str], PolicyEntry | None]


def check_options(config: Config, options: dict[str, Any]) -> CheckOptions:
    """What a check takes from the configuration and from the command line, which counts more."""
    from strictmail.checker.client import CheckOptions
    from strictmail.checker.settings import CheckSettings
    from strictmail.net.smtp import ProbeLimits
    from strictmail.runtime.options import TrustAd

    wanted, dns = config.check, config.dns
    servers = tuple(_server(text) for text in options["resolvers"]) or dns.servers
    trust = {TrustAd.ALWAYS: True, TrustAd.NEVER: False}.get(dns.trust_ad)
    return CheckOptions(
        servers=servers,
        trust_ad=trust,
        dns_timeout=dns.timeout.total_seconds(),
        dns_attempts=dns.attempts,
        mx_ca_file=options["ca_file"] or wanted.ca_file or None,
        policy_ca_file=options["ca_file"] or config.policy.ca_file or None,
        connect_to=options["connect_to"],
        user_agent=config.policy.user_agent,
        settings=CheckSettings(
            ehlo_name=options["ehlo_name"] or wanted.ehlo_name,
            probe_limits=ProbeLimits(
                connect=wanted.connect_timeout.total_seconds(),
                greeting=wanted.greeting_timeout.total_seconds(),
                command=wanted.command_timeout.total_seconds(),
            ),
            policy_seconds=config.policy.fetch_timeout.total_seconds(),
            server_seconds=dns.timeout.total_seconds(),
            deadline_seconds=_deadline(options["timeout"], wanted.deadline),
            allow_networks=(*config.policy.allow_networks, *_networks(options["networks"])),
            want_probes=not options["no_smtp"],
            connections_per_operator=wanted.operator_connections,
            port25_canaries=wanted.port25_canaries,
        ),
    )


def configured_options(config: Config) -> CheckOptions:
    """What a look takes from the configuration alone: for those who have no command line."""
    given = {
        "resolvers": (),
        "ca_file": None,
        "connect_to": (),
        "ehlo_name": "",
        "timeout": None,
        "networks": (),
        "no_smtp": False,
    }
    return check_options(config, given)


def _server(text: str) -> tuple[str, int]:
    from strictmail.net.dns import DNS_PORT
    from strictmail.runtime.addresses import parse_host_port

    try:
        return parse_host_port(text, default_port=DNS_PORT)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--resolver") from None


def _deadline(given: timedelta | None, default: timedelta) -> float:
    seconds = (default if given is None else given).total_seconds()
    if seconds <= 0:
        raise click.BadParameter("nothing can be seen in no time", param_hint="--timeout")
    return seconds


def _networks(given: tuple[str, ...]) -> tuple[str, ...]:
    from strictmail.runtime.kinds import Networks

    try:
        return Networks().parse(list(given))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--allow-network") from None


@contextlib.asynccontextmanager
async def opened(options: CheckOptions) -> AsyncIterator[CheckClient]:
    """A client, ready to check.

    Raises:
        ConfigError: What it was told to use cannot be used: roots, EHLO name.
    """
    from strictmail.checker.client import CheckClient

    async with contextlib.AsyncExitStack() as stack:
        try:
            client = await stack.enter_async_context(CheckClient(options))
        except SyntaxFault:
            raise
        except OSError as error:
            # OpenSSL does not say which file it could not read.
            file = error.filename or options.policy_ca_file or options.mx_ca_file
            place = f"{file}: " if file else ""
            raise ConfigError(f"{place}{error.strerror or error}") from error
        except ValueError as error:
            raise ConfigError(str(error)) from error
        yield client


@contextlib.contextmanager
def history(config: Config, file: str | None) -> Iterator[History]:
    """Gives a function: the policy that senders may hold of a domain, or None.

    Args:
        config: Says where this machine keeps its own policies; those count, too.
        file: Of earlier results; None for none.

    Raises:
        OSError: The file cannot be read.
        SyntaxFault: It is no file of results.
    """
    from datetime import UTC, datetime

    from strictmail.checker.history import entry_of, latest
    from strictmail.checker.resultfile import ResultFile

    sources: list[History] = []
    with contextlib.ExitStack() as stack:
        if file is not None:
            earlier = stack.enter_context(ResultFile(file))

            def of_results(domain: str) -> PolicyEntry | None:
                found = earlier.find(domain)
                return entry_of(found) if found is not None else None

            sources.append(of_results)
        if os.access(config.policies_path, os.R_OK):
            sources.append(_Cache(config, stack))
        yield lambda domain: latest(domain, datetime.now(UTC), *sources)


class _Cache:
    """The policies that this machine's strictmail holds; one that cannot be read is none."""

    _LOST: Final = "what senders may hold from before is not known from it"

    def __init__(self, config: Config, stack: contextlib.ExitStack) -> None:
        from strictmail.store.policies import SqlitePolicyStore

        self._load: History | None = None
        try:
            store = SqlitePolicyStore(config.policies_path, create=False)
        except StoreError as error:
            self._complain(error)
        else:
            stack.callback(store.close)
            self._load = store.load

    def __call__(self, domain: str) -> PolicyEntry | None:
        """The policy of a domain."""
        if self._load is None:
            return None
        try:
            return self._load(domain)
        except StoreError as error:
            self._load = None
            self._complain(error)
            return None

    def _complain(self, error: StoreError) -> None:
        print(f"strictmail: {printable(str(error), 400)}; {self._LOST}", file=sys.stderr)
