# SPDX-License-Identifier: Apache-2.0
"""Every zoo domain through Exim 4.96, which does DANE itself, in the dialect `exim`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from strictmail.lab.zoo import ZOO

from .exim import Exim, EximResult
from .matrix import cases
from .scene import Scene, open_scene, received_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from strictmail.lab.zoo import ZooEntry

pytestmark = pytest.mark.e2e

ROOT: Final = "exim"


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with open_scene(ROOT, [ROOT], warm=["exim"]) as opened:
        yield opened


@pytest.fixture(scope="module")
def results(scene: Scene) -> Mapping[str, EximResult]:
    exim = Exim(scene.world, scene.ca_file)
    exim.start()
    assert exim.version.startswith("4.96")
    return exim.deliver(f"exim@{entry.domain}" for entry in ZOO)


@pytest.mark.parametrize("entry", cases())
def test_mail_to(scene: Scene, results: Mapping[str, EximResult], entry: ZooEntry) -> None:
    recipient = f"exim@{entry.domain}"
    result, received = results[recipient], scene.received(recipient)
    story = (
        f"{entry.fault}\nexpected: {entry.expect.delivery}: {entry.expect.why}\n"
        f"strictmail: {scene.daemon.ask(entry.domain, 'exim')}\n{result}\n{received_text(received)}"
    )
    assert result.outcome == entry.expect.delivery, story
    assert [message.host for message in received] == (
        [entry.expect.received_by] if entry.expect.received_by else []
    ), story
