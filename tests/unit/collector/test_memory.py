# SPDX-License-Identifier: Apache-2.0
"""What the collector remembers of datagrams: sessions, bounded, never a different answer."""

from __future__ import annotations

import json

import pytest

from strictmail.collector.batches import Memory
from strictmail.core.errors import DatagramError
from strictmail.core.mta.datagram import decode_datagram


def datagram(domain: str, *, failed: bool = False) -> bytes:
    policy: dict[str, object] = {"policy-type": 9, "policy-domain": domain, "t": 0, "f": 0}
    if failed:
        policy |= {"failure-details": [{"c": 201, "n": f"mx.{domain}"}], "t": 1, "f": 1}
    return json.dumps({"d": domain, "policies": [policy]}).encode()


def test_what_is_remembered_is_what_the_datagram_says() -> None:
    memory = Memory()
    for data in (datagram("a.example"), datagram("a.example", failed=True)):
        assert memory.decode(data) == memory.decode(data) == decode_datagram(data)


def test_sessions_under_one_policy_share_its_value() -> None:
    memory = Memory()
    good, bad = (
        memory.decode(datagram("a.example")),
        memory.decode(datagram("a.example", failed=True)),
    )
    assert good.policies[0].policy is bad.policies[0].policy


def test_the_last_used_stay_and_the_others_go() -> None:
    asked, other = datagram("asked.example"), datagram("other.example")
    memory = Memory(limit=4 * len(asked))
    first, gone = memory.decode(asked), memory.decode(other)
    for number in range(40):
        memory.decode(datagram(f"n{number:04}.example"))
        assert memory.decode(asked) is first
    again = memory.decode(other)
    assert again == gone
    assert again is not gone


def test_what_cannot_be_counted_is_refused_each_time() -> None:
    memory = Memory()
    for _ in range(2):
        with pytest.raises(DatagramError):
            memory.decode(b"{}")
