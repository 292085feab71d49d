# SPDX-License-Identifier: Apache-2.0
"""Running the load generator, and what it says."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from common import fail
from programs import program

if TYPE_CHECKING:
    from pathlib import Path

    from common import Settings


@dataclass(frozen=True)
class Shape:
    """How a load is put on.

    Attributes:
        connections: Open at the same time.
        pipeline: Requests in one write.
        rate: Requests a second over all connections; 0: as fast as answers come.
        once: Ask every key once, in order, instead of at random for some time.
    """

    connections: int
    pipeline: int = 1
    rate: float = 0
    once: bool = False


@dataclass(frozen=True)
class Result:
    """What one run of the load generator found; its fields are those of its JSON."""

    requests: int
    seconds: float
    rate: float
    cpu_seconds: float
    p50_us: float
    p90_us: float
    p99_us: float
    p999_us: float
    max_us: float
    ok: int
    notfound: int
    temp: int
    perm: int
    complete: bool


class Load:
    """A running load generator."""

    def __init__(
        self,
        settings: Settings,
        address: str,
        keys: Path,
        shape: Shape,
        *,
        seconds: float = 0,
        seed: int = 1,
        undisturbed: bool = False,
    ) -> None:
        self._address = address
        command = [
            *settings.prefix(settings.generator_cpu, undisturbed=undisturbed),
            *(program("loadgen"), "--connect", address, "--keys", str(keys)),
            *("--connections", str(shape.connections), "--pipeline", str(shape.pipeline)),
            *("--order", "once" if shape.once else "random", "--rate", str(shape.rate)),
            *("--seconds", str(seconds), "--warmup", str(settings.scale.warmup)),
            *("--seed", str(seed)),
        ]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def result(self) -> Result:
        """Wait for its end."""
        out, error = self._process.communicate()
        if self._process.returncode != 0:
            fail(f"load on {self._address}: {error.strip() or 'unanswered requests: ' + out}")
        return Result(**json.loads(out))

    def stop(self) -> None:
        """End it without a result."""
        self._process.terminate()
        self._process.communicate()
