# SPDX-License-Identifier: Apache-2.0
"""`strictmail query`: ask the running daemon as the MTA would."""

from __future__ import annotations

import json
import socket
import sys
from typing import TYPE_CHECKING, Final

import click

from strictmail.checker.inputs import domain_meant
from strictmail.cli.configured import configured
from strictmail.cli.exitcodes import ExitCode
from strictmail.core.errors import FrameError, UnreachableError
from strictmail.core.explain import printable
from strictmail.core.mta import netstring
from strictmail.core.mta.socketmap import MAX_REPLY_BYTES
from strictmail.runtime.addresses import InetSocket, SocketAddress, UnixSocket, parse_socket

if TYPE_CHECKING:
    from strictmail.runtime.config import Config, ListenerConfig

ASK_SECONDS: Final = 95.0
"""A little less than Postfix's own limit of 100 s."""


@click.command("query")
@click.argument("key")
@click.option("--listener", "name", metavar="NAME", help="Which listener; default: the first.")
@click.option(
    "--socket", "where", metavar="SPEC", help="A socket instead: inet:ADDR:PORT, unix:/PATH."
)
@click.option("--map", "map_name", default="strictmail", show_default=True, help="The map's name.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@configured
def command(
    config: Config,
    key: str,
    name: str | None,
    where: str | None,
    map_name: str,
    as_json: bool,
) -> int:
    """Ask the running daemon for KEY as the MTA would, and print what the MTA is told.

    KEY is a next-hop in any form: example.com, [mx.example.com]:587, .example.com.
    Exits with 75 when the answer is that the mail waits.
    """
    address, dialect = _address(config, name, where)
    reply = ask(address, map_name, key)
    status, _, value = reply.partition(" ")
    meaning = say_reply(status, value)
    if status == "NOTFOUND" and (domain := domain_meant(key)):
        hint = f"{printable(key)} is no next-hop, and was asked as it is; its domain is {domain}"
        print(f"strictmail: {hint}", file=sys.stderr)
    if as_json:
        document = {"key": key, "socket": str(address), "dialect": dialect, "status": status}
        print(json.dumps({**document, "value": value, "meaning": meaning}))
    else:
        print(printable(reply.strip(), MAX_REPLY_BYTES))
        print(f"  {meaning}")
    return ExitCode.TEMPFAIL if status in ("TEMP", "TIMEOUT", "PERM") else ExitCode.OK


def _address(
    config: Config, name: str | None, where: str | None
) -> tuple[SocketAddress, str | None]:
    if where is not None:
        try:
            return parse_socket(where, bare_inet=True), None
        except ValueError as error:
            raise click.UsageError(f"--socket: {error}") from None
    listener = _listener(config, name)
    return listener.socket, str(listener.dialect)


def _listener(config: Config, name: str | None) -> ListenerConfig:
    if name is None:
        return config.listeners[0]
    for listener in config.listeners:
        if listener.name == name:
            return listener
    names = ", ".join(listener.name for listener in config.listeners)
    raise click.UsageError(f"There is no listener {name[:40]!r}; there are: {names}.")


def ask(address: SocketAddress, map_name: str, key: str) -> str:
    """Ask one question over socketmap.

    Raises:
        UnreachableError: Nobody listens, or the answer is none.
    """
    try:
        with _connect(address) as client:
            # Octets that are no UTF-8 come from the shell as surrogates: they go as they came.
            client.sendall(netstring.encode(f"{map_name} {key}".encode(errors="surrogateescape")))
            decoder = netstring.Decoder(MAX_REPLY_BYTES + 100)
            while data := client.recv(65536):
                for payload in decoder.feed(data):
                    return payload.decode("utf-8", "replace")
    except (OSError, FrameError) as error:
        text = getattr(error, "strerror", None) or error
        raise UnreachableError(
            f"{address}: {text}; is the daemon running? (`strictmail serve`)"
        ) from error
    raise UnreachableError(f"{address}: closed without an answer")


def _connect(address: SocketAddress) -> socket.socket:
    if isinstance(address, UnixSocket):
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            client.settimeout(ASK_SECONDS)
            client.connect(address.path)
        except OSError:
            client.close()
            raise
        return client
    if isinstance(address, InetSocket):
        return socket.create_connection((address.host, address.port), timeout=ASK_SECONDS)
    raise UnreachableError(
        f"{address}: only systemd knows where this socket is; give it with --socket"
    )


def say_reply(status: str, value: str) -> str:
    """What an MTA makes of a reply."""
    if status == "NOTFOUND":
        return "no demand: the MTA's own default level applies"
    if status == "OK":
        level = value.split(" ", 1)[0]
        return {
            "may": "TLS if it is offered",
            "encrypt": "TLS is required, not authenticated",
            "dane": "DANE for hosts that have it",
            "dane-only": "verified TLS by DANE, or the mail waits",
            "secure": "verified TLS to one of the names in match, or the mail waits",
        }.get(level, "a policy that this command does not know")
    if status in ("TEMP", "TIMEOUT"):
        return "the mail waits, and the MTA tries again"
    return "the MTA takes this for a fault of its set-up, and the mail waits"
