# SPDX-License-Identifier: Apache-2.0
"""The life of a daemon, driven by its requests and, once, by real signals."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass, field

import pytest

from strictmail.core.errors import ConfigError, StrictmailError
from strictmail.runtime.logs import EventLog
from strictmail.runtime.notify import Notifier
from strictmail.runtime.service import Lifecycle, signals


class Told(Notifier):
    """Keeps what would have been sent; forgets the changing parts."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[str] = []
        self.beat = asyncio.Event()

    def send(self, *assignments: str) -> bool:
        self.sent.append(assignments[0])
        if assignments[0] == "WATCHDOG=1":
            self.beat.set()
        return True


class Lines(EventLog):
    def __init__(self) -> None:
        self.names: list[str] = []

    def emit(self, name: str, /, **fields: object) -> None:
        self.names.append(name)


@dataclass
class Fake:
    """A service that notes what is called; each step can be made to wait or to fail."""

    calls: list[str] = field(default_factory=list)
    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    entered: dict[str, asyncio.Event] = field(default_factory=dict)
    errors: dict[str, StrictmailError] = field(default_factory=dict)
    alive: bool = True

    def hold(self, step: str) -> None:
        self.gates[step] = asyncio.Event()
        self.entered[step] = asyncio.Event()

    async def _step(self, name: str) -> str:
        self.calls.append(name)
        if name in self.gates:
            self.entered[name].set()
            try:
                await self.gates[name].wait()
            except asyncio.CancelledError:
                self.calls.append(f"{name} cancelled")
                raise
        if name in self.errors:
            raise self.errors[name]
        return name

    async def start(self) -> str:
        return await self._step("start")

    async def reload(self) -> str:
        return await self._step("reload")

    async def drain(self) -> None:
        await self._step("drain")

    async def stop(self) -> None:
        await self._step("stop")

    def is_alive(self) -> bool:
        return self.alive


def build(
    service: Fake, *, drain_seconds: float = 10.0, watchdog_seconds: float | None = None
) -> tuple[Lifecycle, Told, Lines]:
    told, lines = Told(), Lines()
    lifecycle = Lifecycle(
        service,
        notifier=told,
        events=lines,
        drain_seconds=drain_seconds,
        watchdog_seconds=watchdog_seconds,
    )
    return lifecycle, told, lines


async def test_a_whole_life() -> None:
    service = Fake()
    lifecycle, told, lines = build(service)
    life = asyncio.ensure_future(lifecycle.run())
    await lifecycle.ready.wait()
    lifecycle.request_reload()
    while "reload" not in service.calls:
        await asyncio.sleep(0)
    lifecycle.request_stop("SIGTERM")
    await life
    assert service.calls == ["start", "reload", "drain", "stop"]
    assert told.sent == ["READY=1", "RELOADING=1", "READY=1", "STOPPING=1"]
    assert lines.names == ["ready", "stopping"]


async def test_a_refused_reload_changes_nothing() -> None:
    service = Fake(errors={"reload": ConfigError("f:1: no")})
    lifecycle, told, lines = build(service)
    life = asyncio.ensure_future(lifecycle.run())
    await lifecycle.ready.wait()
    lifecycle.request_reload()
    while "reload-refused" not in lines.names:
        await asyncio.sleep(0)
    lifecycle.request_stop()
    await life
    assert told.sent == ["READY=1", "RELOADING=1", "READY=1", "STOPPING=1"]


async def test_a_start_that_fails_ends_with_its_error_and_is_cleaned_up() -> None:
    service = Fake(errors={"start": ConfigError("f:1: no")})
    lifecycle, told, _ = build(service)
    with pytest.raises(ConfigError, match="f:1: no"):
        await lifecycle.run()
    assert service.calls == ["start", "stop"]
    assert told.sent == []


async def test_stop_during_start_cancels_it() -> None:
    service = Fake()
    service.hold("start")
    lifecycle, told, _ = build(service)
    life = asyncio.ensure_future(lifecycle.run())
    await service.entered["start"].wait()
    lifecycle.request_stop()
    await life
    assert service.calls == ["start", "start cancelled", "stop"]
    assert told.sent == []


async def test_stop_during_reload_lets_it_finish() -> None:
    service = Fake()
    service.hold("reload")
    lifecycle, _, _ = build(service)
    life = asyncio.ensure_future(lifecycle.run())
    lifecycle.request_reload()
    await lifecycle.ready.wait()
    await service.entered["reload"].wait()
    lifecycle.request_stop()
    await asyncio.sleep(0)
    assert "drain" not in service.calls
    service.gates["reload"].set()
    await life
    assert service.calls == ["start", "reload", "drain", "stop"]


async def test_a_drain_that_hangs_is_bounded() -> None:
    service = Fake()
    service.hold("drain")
    lifecycle, _, _ = build(service, drain_seconds=0.01)
    life = asyncio.ensure_future(lifecycle.run())
    await lifecycle.ready.wait()
    lifecycle.request_stop()
    await life
    assert service.calls == ["start", "drain", "drain cancelled", "stop"]


async def test_a_second_stop_forces() -> None:
    service = Fake()
    service.hold("drain")
    lifecycle, _, _ = build(service, drain_seconds=3600)
    life = asyncio.ensure_future(lifecycle.run())
    await lifecycle.ready.wait()
    lifecycle.request_stop()
    await service.entered["drain"].wait()
    lifecycle.request_stop()
    await life
    assert service.calls == ["start", "drain", "drain cancelled", "stop"]


async def test_cancelling_the_life_stops_the_service() -> None:
    service = Fake()
    lifecycle, _, _ = build(service)
    life = asyncio.ensure_future(lifecycle.run())
    await lifecycle.ready.wait()
    life.cancel()
    with pytest.raises(asyncio.CancelledError):
        await life
    assert service.calls == ["start", "stop"]


async def test_the_watchdog_hears_only_of_a_service_that_lives() -> None:
    service = Fake()
    lifecycle, told, _ = build(service, watchdog_seconds=0.001)
    life = asyncio.ensure_future(lifecycle.run())
    await told.beat.wait()
    service.alive = False
    told.beat.clear()
    await asyncio.sleep(0.01)
    assert not told.beat.is_set()
    lifecycle.request_stop()
    await life


async def test_signals() -> None:
    service = Fake()
    lifecycle, _, lines = build(service)
    loop = asyncio.get_running_loop()
    before = signal.getsignal(signal.SIGTERM)
    with signals(loop, lifecycle):
        life = asyncio.ensure_future(lifecycle.run())
        await lifecycle.ready.wait()
        os.kill(os.getpid(), signal.SIGHUP)
        while "reload" not in service.calls:
            await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGTERM)
        await life
    assert service.calls == ["start", "reload", "drain", "stop"]
    assert lines.names == ["ready", "stopping"]
    assert signal.getsignal(signal.SIGTERM) == before
