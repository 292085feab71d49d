# SPDX-License-Identifier: Apache-2.0
"""The addresses of a host: both families asked at the same time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from strictmail.core.dnsvalues import RecordType

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from strictmail.core.dnsvalues import Answer
    from strictmail.ports import Resolver

FAMILIES: Final = (RecordType.A, RecordType.AAAA)
IPV6_FIRST: Final = (RecordType.AAAA, RecordType.A)


async def look_up_addresses(
    resolver: Resolver, host: str, families: Sequence[RecordType] = FAMILIES
) -> list[Answer]:
    """One answer for each family, in their order. Never raises for a DNS outcome."""
    return await asyncio.gather(*(resolver.lookup(host, family) for family in families))


def address_texts(answers: Iterable[Answer]) -> list[str]:
    """All addresses of answers, in their order."""
    return [str(record) for answer in answers for record in answer.records]
