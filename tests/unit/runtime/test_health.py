# SPDX-License-Identifier: Apache-2.0
"""Judging resolver, clock, files, listeners and the way out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from strictmail.core.dnsvalues import Answer, RecordType, Status
from strictmail.core.sts.values import FetchedPolicy, FetchFailure, Mode, StsPolicy
from strictmail.core.tlsrpt.results import ResultType
from strictmail.runtime import health
from strictmail.runtime.addresses import InetSocket, SystemdSocket, UnixSocket
from strictmail.runtime.config import Config, check_config
from strictmail.runtime.health import Health


def configure(text: str = "", *, dane: bool = False) -> Config:
    if dane:
        text += '\n[[listener]]\nname = "p"\nsocket = "inet:127.0.0.1:1"\ndane = true\n'
    config, problems = check_config(text)
    assert config is not None, problems
    return config


def answer(status: Status, *, secure: bool = False) -> Answer:
    return Answer("name.example", RecordType.SOA, status, secure=secure)


SIGNED = answer(Status.OK, secure=True)
BOGUS = answer(Status.BOGUS)


@pytest.mark.parametrize(
    ("signed", "bogus", "loopback", "config", "expected"),
    [
        (SIGNED, BOGUS, True, configure(dane=True), ("ok", "ok", "ok")),
        (SIGNED, answer(Status.SERVFAIL), True, configure(), ("ok", "ok", "ok")),
        # a denial is an answer and can be validated too
        (answer(Status.NODATA, secure=True), BOGUS, True, configure(), ("ok", "ok", "ok")),
        (answer(Status.OK), BOGUS, True, configure(dane=True), ("fail", "ok", "ok")),
        (answer(Status.OK), BOGUS, True, configure(), ("warn", "ok", "ok")),
        (SIGNED, answer(Status.OK), True, configure(), ("ok", "fail", "ok")),
        (SIGNED, answer(Status.NXDOMAIN), True, configure(), ("ok", "unknown", "ok")),
        # a name that is there in the real world is not: this is some other world
        (answer(Status.NXDOMAIN), BOGUS, True, configure(), ("unknown", "ok", "ok")),
        # nothing could be asked: nothing is claimed
        (answer(Status.TIMEOUT), answer(Status.TIMEOUT), True, configure(), ("unknown",) * 2),
        (None, None, True, configure(), ("unknown",) * 2),
        (SIGNED, BOGUS, False, configure(dane=True), ("ok", "ok", "fail")),
        (SIGNED, BOGUS, False, configure(), ("ok", "ok", "warn")),
        (SIGNED, BOGUS, False, configure('[dns]\ntrust_ad="always"'), ("ok", "ok", "warn")),
        (SIGNED, BOGUS, True, configure('[dns]\ntrust_ad="always"'), ("ok", "ok", "ok")),
        (
            SIGNED,
            BOGUS,
            True,
            configure('[dns]\ntrust_ad="never"', dane=True),
            ("ok", "ok", "fail"),
        ),
    ],
)
def test_dns(
    signed: Answer | None,
    bogus: Answer | None,
    loopback: bool,
    config: Config,
    expected: tuple[str, ...],
) -> None:
    facts = health.DnsFacts((("127.0.0.1", 53),), loopback, signed, bogus)
    found = {finding.id: finding for finding in health.judge_dns(facts, config)}
    ids = ("dns-validates", "dns-bogus", "dns-trust")[: len(expected)]
    assert tuple(found[name].health for name in ids) == expected


NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.req("SEC-37")
@pytest.mark.parametrize(
    ("not_before", "synchronised", "expected"),
    [
        (NOW, True, ["ok", "ok"]),
        (NOW + timedelta(hours=20), False, ["ok", "warn"]),
        (NOW + timedelta(days=2), None, ["fail", "unknown"]),
    ],
)
def test_clock(not_before: datetime, synchronised: bool | None, expected: list[str]) -> None:
    facts = health.ClockFacts(NOW, not_before, synchronised)
    assert [finding.health for finding in health.judge_clock(facts)] == expected


GIB = 1024**3


@pytest.mark.parametrize(
    ("state", "store", "config_file", "expected"),
    [
        (
            (0o750, 7, GIB),
            (0o640, 7, GIB),
            (0o644, 0, GIB),
            {"state-directory": "ok", "config-file": "ok"},
        ),
        ((0o757, 7, GIB), (0o640, 7, GIB), None, {"state-directory": "fail"}),
        ((0o750, 7, GIB), (0o640, 0, GIB), None, {"state-directory": "warn"}),
        ((0o750, 7, GIB), (None, 0, None), None, {"state-directory": "ok"}),
        ((None, 0, None), (None, 0, None), None, {"state-directory": "warn"}),
        ((0o750, 7, 1024), (None, 0, None), None, {"state-directory": "ok", "disk-space": "warn"}),
        (
            (0o750, 7, GIB),
            (None, 0, None),
            (0o666, 0, GIB),
            {"state-directory": "ok", "config-file": "fail"},
        ),
    ],
)
def test_files(
    state: tuple[int | None, int, int | None],
    store: tuple[int | None, int, int | None],
    config_file: tuple[int | None, int, int | None] | None,
    expected: dict[str, str],
) -> None:
    found = health.judge_files(
        health.FileFacts("/s", *state),
        health.FileFacts("/s/p", *store),
        health.FileFacts("/c", *config_file) if config_file else None,
    )
    assert {finding.id: str(finding.health) for finding in found} == expected


LOCAL = InetSocket("127.0.0.1", 8461)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (health.ListenerFacts("p", LOCAL, False, "NOTFOUND "), {"listener-answers:p": "ok"}),
        (health.ListenerFacts("p", LOCAL, False, "OK x"), {"listener-answers:p": "fail"}),
        (health.ListenerFacts("p", LOCAL, False, None, "refused"), {"listener-answers:p": "fail"}),
        (
            health.ListenerFacts("p", SystemdSocket("x"), False, None),
            {"listener-answers:p": "unknown"},
        ),
        (
            health.ListenerFacts("p", UnixSocket("/s"), True, "NOTFOUND"),
            {"listener-answers:p": "ok", "listener-observes:p": "warn"},
        ),
        (
            health.ListenerFacts("p", InetSocket("::", 1), False, "NOTFOUND"),
            {"listener-answers:p": "ok", "listener-exposed:p": "warn"},
        ),
    ],
)
def test_listener(facts: health.ListenerFacts, expected: dict[str, str]) -> None:
    found = health.judge_listener(facts)
    assert {finding.id: str(finding.health) for finding in found} == expected


def failure(reason_code: str) -> FetchFailure:
    return FetchFailure(ResultType.STS_POLICY_FETCH_ERROR, "why", reason_code)


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (FetchedPolicy(StsPolicy(Mode.ENFORCE, 1, ("a",), ()), b""), Health.OK),
        (failure("connect"), Health.WARN),
        (failure("dns"), Health.UNKNOWN),
        (None, Health.UNKNOWN),
    ],
)
def test_fetch(outcome: FetchedPolicy | FetchFailure | None, expected: Health) -> None:
    assert health.judge_fetch("d.example", outcome).health is expected


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ([], Health.OK),
        ([Health.UNKNOWN], Health.OK),
        ([Health.OK, Health.WARN], Health.WARN),
        ([Health.WARN, Health.FAIL, Health.OK], Health.FAIL),
    ],
)
def test_the_worst_counts(kinds: list[Health], expected: Health) -> None:
    assert health.worst([health.Finding("x", kind, "s") for kind in kinds]) is expected
