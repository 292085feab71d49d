# SPDX-License-Identifier: Apache-2.0
"""From DNS outcomes at `_mta-sts` to FOUND, ABSENT or FAILED."""

from __future__ import annotations

import pytest

from strictmail.core.dnsvalues import RecordType, Status
from strictmail.discovery.policy import RecordStatus, look_up_record
from strictmail.net.fakes import FakeResolver

NAME = "_mta-sts.example.com"
GOOD = (b"v=STSv1; id=20260101;",)
TXT = RecordType.TXT


@pytest.fixture
def resolver() -> FakeResolver:
    return FakeResolver()


@pytest.mark.req("STS-REC-01", "STS-REC-31")
@pytest.mark.parametrize("secure", [True, False])
async def test_found(resolver: FakeResolver, *, secure: bool) -> None:
    resolver.add(NAME, TXT, GOOD, secure=secure, ttl=120)
    lookup = await look_up_record(resolver, "example.com")
    assert lookup.status is RecordStatus.FOUND
    assert lookup.record is not None
    assert lookup.record.policy_id == "20260101"
    assert (lookup.ttl, lookup.detail, lookup.reason_code) == (120, "", "")
    assert dict(resolver.questions) == {(NAME, TXT): 1}


@pytest.mark.req("STS-REC-03")
async def test_strings_are_joined(resolver: FakeResolver) -> None:
    resolver.add(NAME, TXT, (b"v=STS", b"v1; id=a", b"b;"), (b"v=spf1 -all",))
    lookup = await look_up_record(resolver, "example.com")
    assert lookup.record is not None
    assert lookup.record.policy_id == "ab"


@pytest.mark.req("STS-REC-26")
async def test_aliases_are_followed(resolver: FakeResolver) -> None:
    resolver.alias(NAME, "_mta-sts.provider.example", ttl=60)
    resolver.alias("_mta-sts.provider.example", "sts.provider.example")
    resolver.add("sts.provider.example", TXT, GOOD, ttl=600)
    lookup = await look_up_record(resolver, "example.com")
    assert lookup.status is RecordStatus.FOUND
    assert lookup.ttl == 60


@pytest.mark.req("STS-REC-28", "STS-REC-35", "STS-APP-03")
async def test_parents_are_not_asked(resolver: FakeResolver) -> None:
    resolver.add(NAME, TXT, GOOD)
    lookup = await look_up_record(resolver, "sub.example.com")
    assert lookup.status is RecordStatus.ABSENT
    assert dict(resolver.questions) == {("_mta-sts.sub.example.com", TXT): 1}


@pytest.mark.req("STS-APP-05", "STS-REC-28")
async def test_the_target_of_an_alias_is_not_asked(resolver: FakeResolver) -> None:
    resolver.alias("alias.example", "example.com", secure=True)
    resolver.add(NAME, TXT, GOOD)
    lookup = await look_up_record(resolver, "alias.example")
    assert lookup.status is RecordStatus.ABSENT
    assert dict(resolver.questions) == {("_mta-sts.alias.example", TXT): 1}


@pytest.mark.req("STS-REC-32")
async def test_denials_carry_the_negative_ttl(resolver: FakeResolver) -> None:
    resolver.negative_ttl = 77
    nxdomain = await look_up_record(resolver, "example.com")
    assert (nxdomain.status, nxdomain.reason_code) == (RecordStatus.ABSENT, "nxdomain")
    resolver.add(NAME, RecordType.A, "192.0.2.1")
    nodata = await look_up_record(resolver, "example.com")
    assert (nodata.status, nodata.reason_code) == (RecordStatus.ABSENT, "nodata")
    assert nxdomain.ttl == nodata.ttl == 77
    assert NAME in nxdomain.detail


@pytest.mark.parametrize(
    ("records", "reason_code"),
    [
        pytest.param([(b"v=spf1 -all",)], "absent", marks=pytest.mark.req("STS-REC-04")),
        pytest.param([GOOD, (b"v=STSv1; id=2;",)], "several", marks=pytest.mark.req("STS-REC-05")),
        pytest.param([(b"v=STSv1;",)], "syntax", marks=pytest.mark.req("STS-REC-06")),
        pytest.param([(b"v=STSv1; id=\xff;",)], "syntax", marks=pytest.mark.req("STS-REC-22")),
    ],
)
async def test_records_that_do_not_count(
    resolver: FakeResolver, records: list[tuple[bytes, ...]], reason_code: str
) -> None:
    resolver.add(NAME, TXT, *records, ttl=90)
    lookup = await look_up_record(resolver, "example.com")
    assert (lookup.status, lookup.reason_code) == (RecordStatus.ABSENT, reason_code)
    assert lookup.record is None
    assert lookup.ttl == 90
    assert lookup.detail.isprintable()


@pytest.mark.req("STS-REC-29", "STS-REC-30", "STS-REC-31")
@pytest.mark.parametrize(
    "status", [Status.SERVFAIL, Status.BOGUS, Status.TIMEOUT, Status.MALFORMED]
)
async def test_failures_say_nothing(resolver: FakeResolver, status: Status) -> None:
    resolver.add(NAME, TXT, GOOD)
    resolver.fail(NAME, TXT, status)
    lookup = await look_up_record(resolver, "example.com")
    assert (lookup.status, lookup.record, lookup.ttl) == (RecordStatus.FAILED, None, 0)
    assert lookup.reason_code == status.value
    assert lookup.detail


async def test_a_name_too_long_for_the_label(resolver: FakeResolver) -> None:
    # 250 characters are a domain name, but `_mta-sts.` does not fit in front of them.
    lookup = await look_up_record(resolver, ".".join(["a" * 49] * 5))
    assert (lookup.status, lookup.reason_code) == (RecordStatus.FAILED, "malformed")
