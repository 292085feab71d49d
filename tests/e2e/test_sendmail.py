# SPDX-License-Identifier: Apache-2.0
"""Zoo domains through sendmail 8.17, built without DANE, in the dialect `sendmail`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from strictmail.lab.entries import ARRIVES

from .matrix import cases, entries
from .scene import Scene, expected, open_scene, received_text
from .sendmail import Sendmail, SendmailResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from strictmail.lab.zoo import ZooEntry

pytestmark = pytest.mark.e2e

DIALECT: Final = "sendmail"
SECTIONS: Final = (
    "Domains without policy",
    "Modes",
    "Certificates of MX hosts",
    "SMTP service of MX hosts",
    "Sets of MX hosts",
)
"""Where the outcome depends on the MTA. The rest is strictmail's own work, and the same for all."""


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with open_scene(DIALECT, [DIALECT], warm=entries(*SECTIONS), dialect=DIALECT) as opened:
        yield opened


@pytest.fixture(scope="module")
def results(scene: Scene) -> Iterator[Mapping[str, SendmailResult]]:
    sendmail = Sendmail(scene.world, scene.ca_file)
    sendmail.start()
    assert sendmail.version.startswith("8.17")
    yield sendmail.deliver(f"sendmail@{entry.domain}" for entry in entries(*SECTIONS))
    sendmail.stop()


@pytest.mark.parametrize("entry", cases(*SECTIONS))
def test_mail_to(scene: Scene, results: Mapping[str, SendmailResult], entry: ZooEntry) -> None:
    recipient = f"sendmail@{entry.domain}"
    result, received = results[recipient], scene.received(recipient)
    wanted = expected(entry, DIALECT, dane=False)
    story = (
        f"{entry.fault}\nexpected: {wanted}: {entry.expect.why}\n"
        f"strictmail: {scene.daemon.ask(entry.domain, DIALECT)}\n{result}\n"
        f"{received_text(received)}"
    )
    # sendmail calls a session verified also where nothing asked for it.
    word = result.outcome
    if word == "verified" and wanted.delivery == "encrypted":
        word = "encrypted"
    assert wanted.allows(word), story
    if result.outcome in ("deferred", "bounced"):
        assert not received, story
        return
    assert len(received) == 1, story
    assert received[0].tls == (result.outcome != "plaintext"), story
    if wanted.delivery in ARRIVES:
        assert received[0].host == wanted.received_by, story
