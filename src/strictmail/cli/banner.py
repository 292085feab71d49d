# SPDX-License-Identifier: Apache-2.0
"""What `strictmail serve` prints once it is ready: what listens where, and how to use it."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

from strictmail.runtime.options import Dialect

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from strictmail.cli.roles.role import Banner
    from strictmail.runtime.config import Config, ListenerConfig


def banner_lines(banners: Sequence[Banner], http: str) -> Iterator[str]:
    """Say what is where, what to put into the MTA, and how to ask.

    Args:
        banners: Of the roles.
        http: Where the HTTP listener really is; empty if it is off.
    """
    yield "strictmail is ready."
    yield ""
    for banner in banners:
        yield from (f"  {line}" for line in banner.places)
    if http:
        paths = [path for banner in banners for path in banner.paths]
        yield f"  http: {http} ({', '.join((*paths, '/metrics', '/readyz'))})"
    for banner in banners:
        yield from (f"  {line}" for line in banner.state)
    for banner in banners:
        yield from banner.advice
    for banner in banners:
        yield from banner.question


def mta_lines(listener: ListenerConfig, where: str) -> Iterator[str]:
    """The lines for the MTA's configuration that fit a listener."""
    if listener.dialect in (Dialect.POSTFIX, Dialect.POSTFIX_TLSRPT):
        yield "In Postfix's main.cf, then `postfix reload`:"
        yield f"  smtp_tls_security_level = {postfix_level(listener)}"
        yield f"  smtp_tls_policy_maps = socketmap:{where}:strictmail"
        yield "  smtp_tls_CAfile = /etc/ssl/certs/ca-certificates.crt"
        if listener.dane:
            yield "  smtp_dns_support_level = dnssec"
            yield "  smtp_tls_dane_insecure_mx_policy = dane"
    elif listener.dialect is Dialect.SENDMAIL:
        host, _, port = where.removeprefix("inet:").rpartition(":")
        yield "In sendmail.mc, then rebuild sendmail.cf:"
        yield f"  FEATURE(`sts', `socket -d30 -T<TMPF> inet:{port}@{host}')dnl"
    else:
        yield f"In Exim's configuration, see docs/exim.md; the socket is {where}."


def postfix_level(listener: ListenerConfig) -> str:
    """Postfix's word for a listener's default level."""
    return str(listener.default_level)


def ask_command(config: Config) -> str:
    """A command that asks the daemon a question."""
    extra = ""
    if config.origins.get("state_directory") == "--state-directory":
        extra = f" --state-directory {config.state_directory}"
    elif config.path:
        extra = f" --config {config.path}"
    return f"{program()} query{extra} example.com"


def program() -> str:
    """How this program is called from here."""
    if shutil.which("strictmail"):
        return "strictmail"
    return os.path.relpath(sys.argv[0])
