# SPDX-License-Identifier: Apache-2.0
"""`query` and `explain` with what people type, and with nobody to ask."""

from __future__ import annotations

import socket
import threading

import pytest

from strictmail.checker.inputs import domain_meant
from strictmail.cli.query import ask
from strictmail.core.errors import UnreachableError
from strictmail.runtime.addresses import InetSocket, UnixSocket


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("user@example.com", "example.com"),
        ("https://example.com/", "example.com"),
        ("https://m\u00fcller.example", "xn--mller-kva.example"),
        ("example.com", ""),
        ("[mx.example.com]:587", ""),
        ("@", ""),
        ("://", ""),
        ("user@[192.0.2.1]", ""),
    ],
)
def test_the_domain_that_was_meant(text: str, domain: str) -> None:
    assert domain_meant(text) == domain


def test_nobody_there_is_said_with_the_place_and_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(UnreachableError, match=rf"inet:127.0.0.1:{port}: .*strictmail serve"):
        ask(InetSocket("127.0.0.1", port), "sts", "a.example")
    with pytest.raises(UnreachableError, match=r"unix:/nowhere: .*strictmail serve"):
        ask(UnixSocket("/nowhere"), "sts", "a.example")


def test_octets_that_are_no_utf_8_are_sent_as_they_are() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        got: list[bytes] = []

        def serve() -> None:
            client, _ = server.accept()
            with client:
                got.append(client.recv(1000))
                client.sendall(b"9:NOTFOUND ,")

        thread = threading.Thread(target=serve)
        thread.start()
        address = InetSocket("127.0.0.1", server.getsockname()[1])
        assert ask(address, "sts", "\udcff") == "NOTFOUND "
        thread.join()
    assert got == [b"5:sts \xff,"]
