# SPDX-License-Identifier: Apache-2.0
"""The real DNS and HTTPS adapters against every domain of the lab's zoo."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final

import pytest

from strictmail.core.mxset import MxStatus
from strictmail.core.nexthop import parse_nexthop
from strictmail.core.sts.values import FetchFailure
from strictmail.discovery.mx import discover_mx
from strictmail.discovery.policy import RecordStatus, look_up_record
from strictmail.lab.net import Lab
from strictmail.net.dns import DnsResolver
from strictmail.net.https import HttpsPolicyFetcher

if TYPE_CHECKING:
    from strictmail.core.tlsrpt.results import ResultType
    from strictmail.lab.entries import ZooEntry

pytestmark = pytest.mark.slow

HANGING: Final = frozenset({"policy-slow", "policy-stall"})
"""Their fault is that they take longer than anybody waits."""


async def _fetch(
    lab: Lab, resolver: DnsResolver, entry: ZooEntry, slots: asyncio.Semaphore
) -> ResultType | None:
    async with slots:
        record = await look_up_record(resolver, entry.domain)
        if record.status is not RecordStatus.FOUND:
            return None
        fetcher = HttpsPolicyFetcher(
            resolver,
            ca_file=str(lab.ca_file),
            timeout=1.0 if entry.name in HANGING else 30.0,
            allow_networks=["127.0.0.0/8"],
            connect_port=lab.https_port,
        )
        result = await fetcher.fetch(entry.domain)
        return result.result_type if isinstance(result, FetchFailure) else None


@pytest.mark.req("STS-FET-28", "SEC-16")
async def test_zoo() -> None:
    async with Lab() as lab:
        resolver = DnsResolver([lab.dns_address], trust_ad=True, rng=random.Random(1))
        await resolver.start()
        assert await resolver.probe()
        slots = asyncio.Semaphore(16)
        results = await asyncio.gather(
            *(_fetch(lab, resolver, entry, slots) for entry in lab.entries)
        )
        sets = [
            await discover_mx(resolver, parse_nexthop(entry.domain), want_tlsa=True)
            for entry in lab.entries
        ]
        await resolver.close()
    got = {entry.name: result for entry, result in zip(lab.entries, results, strict=True)}
    assert got == {entry.name: entry.expect.result_type for entry in lab.entries}
    for entry, found in zip(lab.entries, sets, strict=True):
        if found.status in (MxStatus.FOUND, MxStatus.IMPLICIT):
            assert found.hosts, entry.name
        if entry.domain.endswith(".plain.test"):
            assert not found.secure, entry.name
        if entry.domain.endswith(".bogus.test"):
            assert found.status is MxStatus.ERROR, entry.name
