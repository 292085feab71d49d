# SPDX-License-Identifier: Apache-2.0
"""What Postfix does inside its sessions, where the zoo's outcomes alone would not show it."""

from __future__ import annotations

import contextlib
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest

from strictmail.lab.zoo import ZOO

from .daemon import Daemon
from .postfix import Postfix
from .scene import open_scene

if TYPE_CHECKING:
    from collections.abc import Iterator

    from strictmail.lab.net import ReceivedMessage
    from strictmail.lab.zoo import ZooEntry

    from .scene import Scene
    from .world import World

pytestmark = pytest.mark.e2e

ENTRIES: Final = {entry.name: entry for entry in ZOO}
SESSION_KEY: Final = re.compile(r"looking for session (\S+) in smtp cache")
WITHOUT_TLS, WITH_ANY_TLS = "clear.sender.test", "any.sender.test"
"""Recipient domains that the operator routes to a host of another domain, and asks nothing of."""


def host_of(entry: ZooEntry) -> str:
    """The name of the entry's first MX host."""
    return entry.mx[0].name


ROUTES: Final = {
    WITHOUT_TLS: host_of(ENTRIES["good"]),
    WITH_ANY_TLS: host_of(ENTRIES["mx-self-signed"]),
}


@dataclass(slots=True)
class Stage:
    """One Postfix that keeps connections and TLS sessions for later use."""

    scene: Scene
    postfix: Postfix

    def take(self, entry: ZooEntry, tag: str) -> ReceivedMessage:
        """Send to an entry that must get it verified; what its MX host saw."""
        recipient = f"{tag}@{entry.domain}"
        attempt = self.postfix.deliver(recipient)
        assert attempt.outcome == "verified", str(attempt)
        (message,) = self.scene.received(recipient)
        return message


def listen(world: World, address: str, port: int) -> socket.socket:
    """A socket in the world's network that whoever connects to can be asked for."""

    def make() -> socket.socket:
        world.enter_network()
        return socket.create_server((address, port))

    with ThreadPoolExecutor(1) as thread:  # which stays in that network, so it must be its own
        listener = thread.submit(make).result()
    listener.setblocking(False)
    return listener


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with open_scene("sessions", ["bookworm"]) as scene:
        clear, any_tls = (f"[{host}]" for host in ROUTES.values())
        routes = ", ".join(f"{{{name} = smtp:[{host}]}}" for name, host in ROUTES.items())
        own = f"inline:{{ {{{clear} = none}}, {{{any_tls} = encrypt}} }}"
        postfix = Postfix(
            scene.world,
            "bookworm",
            ca_file=scene.ca_file,
            extra={
                "transport_maps": f"inline:{{ {routes} }}",
                "smtp_tls_policy_maps": f"{own}, socketmap:{Daemon.socketmap('postfix')}:postfix",
                # Postfix takes a routed host by its bare name here.
                "smtp_connection_cache_destinations": ", ".join(
                    [ROUTES[WITHOUT_TLS], ENTRIES["good"].domain]
                ),
                "smtp_connection_cache_time_limit": "60s",
                "smtp_tls_session_cache_database": "btree:$data_directory/smtp_scache",
                "smtp_tls_loglevel": "2",
            },
        )
        postfix.start()
        scene.daemon.ask_all([ENTRIES[n].domain for n in ("good", "mx-self-signed")], "postfix")
        yield Stage(scene, postfix)


@pytest.mark.req("STS-APP-37", "STS-APP-38", "STS-APP-42", "SEC-05")
@pytest.mark.parametrize("name", ["good", "mx-alias"])
def test_the_mx_host_sees_its_own_name_and_a_new_greeting(stage: Stage, name: str) -> None:
    # The lab's MX hosts refuse MAIL until they were greeted again inside TLS.
    entry = ENTRIES[name]
    message = stage.take(entry, "sni")
    assert message.server_name == host_of(entry)
    assert message.tls_version in ("TLSv1.2", "TLSv1.3")


@pytest.mark.req("DANE-73")
def test_with_dane_the_mx_host_sees_the_base_domain(stage: Stage) -> None:
    # TLSA records are at the alias target, not at the name in the MX record.
    entry = ENTRIES["dane-cname"]
    stage.scene.daemon.ask_all([entry.domain], "postfix")
    message = stage.take(entry, "sni")
    assert entry.mx[0].canonical
    assert message.server_name == entry.mx[0].canonical


@pytest.mark.req("STS-APP-45", "STS-APP-44")
@pytest.mark.parametrize("name", ["mx-no-starttls", "mx-broken-tls"])
def test_no_other_port_is_tried(stage: Stage, name: str) -> None:
    entry = ENTRIES[name]
    stage.scene.daemon.ask_all([entry.domain], "postfix")
    address = stage.scene.lab.do(lambda lab: lab.addresses[host_of(entry)])
    with contextlib.ExitStack() as opened:
        listeners = [
            opened.enter_context(listen(stage.scene.world, address, port)) for port in (465, 587)
        ]
        attempt = stage.postfix.deliver(f"port@{entry.domain}")
        assert attempt.outcome == "deferred", str(attempt)
        for listener in listeners:
            with pytest.raises(BlockingIOError):
                listener.accept()


@pytest.mark.req("SEC-36", "STS-APP-41", "STS-APP-06")
def test_a_kept_connection_in_the_clear_is_not_used_for_a_policy(stage: Stage) -> None:
    clear = [stage.postfix.deliver(f"kept-{n}@{WITHOUT_TLS}") for n in range(2)]
    assert [attempt.outcome for attempt in clear] == ["plaintext", "plaintext"], clear
    assert "conn_use=2" in clear[1].lines[-1], "no connection was kept"
    entry = ENTRIES["good"]
    assert clear[1].host == host_of(entry)
    assert stage.take(entry, "kept").tls


@pytest.mark.req("SEC-35", "STS-APP-41")
def test_a_kept_session_that_nobody_verified_is_not_used_for_a_policy(stage: Stage) -> None:
    unverified = [stage.postfix.deliver(f"kept-{n}@{WITH_ANY_TLS}") for n in range(2)]
    assert [attempt.outcome for attempt in unverified] == ["encrypted", "encrypted"], unverified
    entry = ENTRIES["mx-self-signed"]
    assert unverified[1].host == host_of(entry)
    refused = stage.postfix.deliver(f"kept@{entry.domain}")
    assert refused.outcome == "deferred", str(refused)
    keys = [set(SESSION_KEY.findall(str(attempt))) for attempt in (*unverified, refused)]
    assert all(keys), "no session was looked for"
    assert keys[0] == keys[1]
    assert not keys[1] & keys[2]
