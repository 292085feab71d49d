# SPDX-License-Identifier: Apache-2.0
"""Every zoo domain through sendmail 8.17 (built without DANE) in the dialect `sendmail`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from strictmail.lab.zoo import ZOO

from .matrix import cases
from .scene import Scene, open_scene, received_text
from .sendmail import Sendmail, SendmailResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from strictmail.lab.zoo import ZooEntry

pytestmark = pytest.mark.e2e

ROOT: Final = "sendmail"


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with open_scene(ROOT, [ROOT], warm=["sendmail"]) as opened:
        yield opened


@pytest.fixture(scope="module")
def results(scene: Scene) -> Mapping[str, SendmailResult]:
    sendmail = Sendmail(scene.world, scene.ca_file)
    sendmail.start()
    assert sendmail.version.startswith("8.17")
    return sendmail.deliver(f"sendmail@{entry.domain}" for entry in ZOO)


@pytest.mark.parametrize("entry", cases())
def test_mail_to(scene: Scene, results: Mapping[str, SendmailResult], entry: ZooEntry) -> None:
    recipient = f"sendmail@{entry.domain}"
    result, received = results[recipient], scene.received(recipient)
    story = (
        f"{entry.fault}\nexpected: {entry.expect.delivery_without_dane}: {entry.expect.why}\n"
        f"strictmail: {scene.daemon.ask(entry.domain, 'sendmail')}\n{result}\n{received_text(received)}"
    )
    assert result.outcome == entry.expect.delivery_without_dane, story
    assert [message.host for message in received] == (
        [entry.expect.received_by] if entry.expect.received_by else []
    ), story
