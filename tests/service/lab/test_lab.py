# SPDX-License-Identifier: Apache-2.0
"""The lab's life: starting, stopping, files, ports, time."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import random
import socket
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from strictmail.core.dnsvalues import RecordType
from strictmail.core.sts.values import FetchedPolicy, FetchFailure
from strictmail.lab.net import Lab, LabPorts, ReceivedMessage
from strictmail.lab.zoo import ZOO
from strictmail.lab.zoobuild import ENCRYPTED, ENFORCE, entry, expect
from strictmail.net.dns import DnsResolver
from strictmail.net.https import HttpsPolicyFetcher
from strictmail.runtime.clock import ManualClock

if TYPE_CHECKING:
    from pathlib import Path

ONE = (entry("t", "none", "", expect("", ENCRYPTED), policy=ENFORCE),)
TWO = (*ONE, entry("u", "none", "", expect("", ENCRYPTED), policy=ENFORCE))


def is_open(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), 10):
        return True
    return False


async def test_everything_ends_with_the_block() -> None:
    async with Lab() as lab:
        assert {entry.name for entry in lab.entries} == {entry.name for entry in ZOO}
        places = [
            lab.dns_address,
            (lab.addresses["mx.good.plain.test"], lab.smtp_port),
            (lab.addresses["mta-sts.good.plain.test"], lab.https_port),
        ]
        assert all([await asyncio.to_thread(is_open, *place) for place in places])
        assert all(address.startswith("127.") for address in lab.addresses.values())
        directory = lab.directory
    assert not any(is_open(*place) for place in places)
    assert not directory.exists()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_open_connections_end_with_it_too() -> None:
    async with Lab(zoo=ONE) as lab:
        mx = await asyncio.open_connection(lab.addresses["mx.t.plain.test"], lab.smtp_port)
        dns = await asyncio.open_connection(*lab.dns_address)
        await mx[0].readline()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    for reader, writer in (mx, dns):
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_several_labs_live_side_by_side() -> None:
    async with Lab(zoo=TWO) as one, Lab(zoo=TWO) as other:
        assert one.smtp_port != other.smtp_port
        assert one.https_port != other.https_port
        assert one.dns_address != other.dns_address


async def test_a_port_that_is_taken_is_an_error_and_leaves_nothing() -> None:
    async with Lab(zoo=TWO) as one:
        for ports in (
            LabPorts(dns=one.dns_address[1]),
            LabPorts(https=one.https_port),
            LabPorts(smtp=one.smtp_port),
        ):
            with pytest.raises(OSError) as caught:
                async with Lab(zoo=TWO, ports=ports):
                    pass
            assert caught.value.errno == errno.EADDRINUSE


async def test_without_dns() -> None:
    async with Lab(zoo=ONE, dns=False) as lab:
        assert lab.dns_address[1] == 0
        assert lab.count("t.plain.test", "MX") == 0


async def test_files_stay_in_a_directory_that_was_given(tmp_path: Path) -> None:
    place = tmp_path / "lab"
    async with Lab(zoo=ONE, directory=place) as lab:
        assert lab.ca_file == str(place / "ca.pem")
        assert (place / "keys").stat().st_mode & 0o777 == 0o700
        reader, writer = await asyncio.open_connection(
            lab.addresses["mx.t.plain.test"], lab.smtp_port
        )
        for line in ("HELO x", "MAIL FROM:<>", "RCPT TO:<a\x1b@t.plain.test>", "DATA", ".", "QUIT"):
            writer.write(f"{line}\r\n".encode())
        await reader.read()
        writer.close()
        await writer.wait_closed()
    [line] = (place / "messages.jsonl").read_text().splitlines()
    seen = json.loads(line)
    assert (seen["host"], seen["domain"], seen["tls"]) == (
        "mx.t.plain.test",
        "t.plain.test",
        False,
    )
    assert "\x1b" not in line
    async with Lab(zoo=ONE, directory=place):
        pass  # a second time, with new keys


async def test_messages_are_stamped_with_the_labs_clock() -> None:
    clock = ManualClock()
    told: list[ReceivedMessage] = []
    async with Lab(clock, zoo=ONE, on_message=told.append) as lab:
        for _ in range(2):
            clock.advance(timedelta(days=1))
            reader, writer = await asyncio.open_connection(
                lab.addresses["mx.t.plain.test"], lab.smtp_port
            )
            writer.write(
                b"HELO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@t.plain.test>\r\nDATA\r\n.\r\nQUIT\r\n"
            )
            await reader.read()
            writer.close()
            await writer.wait_closed()
        assert lab.messages == told
    assert told[1].at - told[0].at == timedelta(days=1)


async def test_a_policy_can_be_published_and_fetched_anew() -> None:
    async with Lab(zoo=ONE) as lab:
        resolver = DnsResolver([lab.dns_address], rng=random.Random(1))
        await resolver.start()
        fetcher = HttpsPolicyFetcher(
            resolver,
            ca_file=lab.ca_file,
            allow_networks=["127.0.0.0/8"],
            connect_port=lab.https_port,
        )
        first = await fetcher.fetch("t.plain.test")
        lab.publish("t.plain.test", "version: STSv1\nmode: none\nmax_age: 60\n", "2")
        second = await fetcher.fetch("t.plain.test")
        txt = await resolver.lookup("_mta-sts.t.plain.test", RecordType.TXT)
        lab.break_policy_host("t.plain.test", "status-500")
        third = await fetcher.fetch("t.plain.test")
        await resolver.close()
        assert isinstance(first, FetchedPolicy)
        assert isinstance(second, FetchedPolicy)
        assert isinstance(third, FetchFailure)
        assert (first.policy.mode, second.policy.mode) == ("enforce", "none")
        assert txt.records == ((b"v=STSv1; id=2;",),)
        assert lab.fetches("t.plain.test") == 3


async def test_owners_without_plans_change_nothing() -> None:
    async with Lab(zoo=ONE) as lab:
        with pytest.raises(ValueError, match="plans no change"):
            lab.change("t.plain.test")
        with pytest.raises(KeyError, match=r"no domain nobody\.test"):
            lab.change("nobody.test")
        assert lab.entry("t") is lab.entry("T.plain.test.") is lab.entries[0]
