# SPDX-License-Identifier: Apache-2.0
"""Zoo domains through Exim 4.96, which does DANE itself, in the dialect `exim`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from strictmail.lab.entries import ARRIVES

from .exim import Exim, EximResult
from .matrix import cases, entries
from .scene import Scene, expected, open_scene, received_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from strictmail.lab.zoo import ZooEntry

pytestmark = pytest.mark.e2e

DIALECT: Final = "exim"
SECTIONS: Final = (
    "Domains without policy",
    "Modes",
    "Certificates of MX hosts",
    "SMTP service of MX hosts",
    "Sets of MX hosts",
    "DANE satisfied",
    "DANE not satisfied",
    "DANE not applicable",
    "DANE and MTA-STS",
)
"""Where the outcome depends on the MTA. The rest is strictmail's own work, and the same for all."""


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with open_scene(DIALECT, [DIALECT], warm=entries(*SECTIONS), dialect=DIALECT) as opened:
        yield opened


@pytest.fixture(scope="module")
def results(scene: Scene) -> Mapping[str, EximResult]:
    exim = Exim(scene.world, scene.ca_file)
    exim.start()
    assert exim.version.startswith("4.96")
    return exim.deliver(f"exim@{entry.domain}" for entry in entries(*SECTIONS))


@pytest.mark.parametrize("entry", cases(*SECTIONS))
def test_mail_to(scene: Scene, results: Mapping[str, EximResult], entry: ZooEntry) -> None:
    recipient = f"exim@{entry.domain}"
    result, received = results[recipient], scene.received(recipient)
    wanted = expected(entry, DIALECT, dane=True)
    story = (
        f"{entry.fault}\nexpected: {wanted}: {entry.expect.why}\n"
        f"strictmail: {scene.daemon.ask(entry.domain, DIALECT)}\n{result}\n"
        f"{received_text(received)}"
    )
    assert wanted.allows(result.outcome), story
    if result.outcome in ("deferred", "bounced"):
        assert not received, story
        return
    assert len(received) == 1, story
    assert received[0].tls == (result.outcome != "plaintext"), story
    if wanted.delivery in ARRIVES:
        assert received[0].host == wanted.received_by, story
