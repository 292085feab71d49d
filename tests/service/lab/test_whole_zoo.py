# SPDX-License-Identifier: Apache-2.0
"""Every zoo domain asked about and sent to by an ideal sender, with DANE and without."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from tests.service.lab.sender import Learnt, Sender, Sent, open_sender

from strictmail.lab.net import Lab
from strictmail.lab.zoo import ZOO, Outcome, ZooEntry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# One lab for all cases: they are told apart by their domains.
pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("whole-zoo"),
    pytest.mark.slow,
]


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="sender")
async def _open() -> AsyncIterator[Sender]:
    async with Lab(slow_seconds=3600) as lab, open_sender(lab) as sender:
        yield sender


def cases() -> list[object]:
    return [
        pytest.param(entry, id=entry.name, marks=pytest.mark.req(*entry.requirements))
        for entry in ZOO
    ]


async def check(sender: Sender, entry: ZooEntry, outcome: Outcome, *, dane: bool) -> None:
    learnt: Learnt = await sender.learn(entry, dane=dane)
    story = f"{entry.fault}; {entry.expect.why}\n{learnt.decision.reason} {learnt.failure}"
    failed_as = learnt.failure.result_type if learnt.failure is not None else None
    assert failed_as == entry.expect.result_type, story
    if outcome.level is not None:
        assert learnt.decision.level == outcome.level, story
    before = len(sender.lab.messages)
    sent: Sent = await sender.send(entry, learnt.decision)
    assert outcome.allows(sent.delivery), f"{story}\n{sent}"
    assert sent.host == outcome.received_by, f"{story}\n{sent}"
    assert [m.host for m in sender.lab.messages[before:]] == (
        [sent.host] if sent.host is not None else []
    ), story


@pytest.mark.parametrize("entry", cases())
async def test_with_dane(sender: Sender, entry: ZooEntry) -> None:
    await check(sender, entry, entry.expect.dane, dane=True)


@pytest.mark.parametrize("entry", cases())
async def test_without_dane(sender: Sender, entry: ZooEntry) -> None:
    await check(sender, entry, entry.expect.plain, dane=False)


async def test_the_owner_changes_the_policy(sender: Sender) -> None:
    entry = next(entry for entry in ZOO if entry.change is not None)
    assert entry.change is not None
    sender.lab.change(entry.domain)
    await asyncio.sleep(0)
    learnt = await sender.learn(entry, dane=False)
    assert learnt.decision.level == entry.change.expect.plain.level
    assert learnt.decision.policy is not None
    assert learnt.decision.policy.policy_id == entry.change.policy_id
