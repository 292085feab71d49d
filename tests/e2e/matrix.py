# SPDX-License-Identifier: Apache-2.0
"""Every zoo domain sent to through one Postfix, and the outcome held against the zoo."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest

from strictmail.lab.zoo import SECTIONS, ZOO

from .postfix import Postfix
from .scene import expected, open_scene, received_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from _pytest.mark import ParameterSet

    from strictmail.lab.entries import Outcome
    from strictmail.lab.net import ReceivedMessage
    from strictmail.lab.zoo import ZooEntry

    from .postfix import Attempt
    from .scene import Scene

    Wanted = Callable[[ZooEntry], Outcome]

LOCAL_PART: Final = "matrix"
RETRIED_AS_PLAINTEXT: Final = "Cannot start TLS: handshake failure"


@dataclass(frozen=True, slots=True)
class Matrix:
    """What became of one message to each zoo domain.

    Attributes:
        answers: What strictmail said, by domain, asked again after it had learnt what there is.
        attempts: All attempts of each message, by domain.
        received: What MX hosts took, by domain.
    """

    scene: Scene
    postfix: Postfix
    dialect: str
    wanted: Wanted
    answers: Mapping[str, str]
    attempts: Mapping[str, list[Attempt]]
    received: Mapping[str, list[ReceivedMessage]]

    def tell(self, entry: ZooEntry) -> str:
        """Everything known of one domain, for a failing test."""
        lines = "\n".join(str(attempt) for attempt in self.attempts[entry.domain])
        return (
            f"{entry.domain}: {entry.fault}\n"
            f"expected: {self.wanted(entry)}: {entry.expect.why}\n"
            f"strictmail: {self.answers[entry.domain]}\n"
            f"Postfix:\n{lines}\n"
            f"MX hosts:\n{received_text(self.received[entry.domain])}"
        )


@contextmanager
def open_matrix(
    root: str, dialect: str, extra: Mapping[str, str], wanted: Wanted | None = None
) -> Iterator[Matrix]:
    """Send one message to every zoo domain through the Postfix of `root`.

    Args:
        root: The Debian root.
        dialect: The listener that it asks.
        extra: Lines of main.cf.
        wanted: What has to become of a message; None: as for a sender that does all there is.
    """
    wanted = wanted or (lambda entry: expected(entry, dialect, dane=True))
    with open_scene(root, [root], warm=ZOO, dialect=dialect) as scene:
        postfix = Postfix(
            scene.world,
            root,
            ca_file=scene.ca_file,
            socketmap=scene.daemon.socketmap(dialect),
            extra=extra,
        )
        postfix.start()
        recipients = {entry.domain: f"{LOCAL_PART}@{entry.domain}" for entry in ZOO}
        queue_ids = postfix.submit(recipients.values())
        first = postfix.wait_for(queue_ids.values())
        # At level `may`, Postfix tries again in the clear after a failed handshake, but only for
        # a message that has waited for minimal_backoff_time (here: a second) already.
        again = {
            queue_ids[recipients[entry.domain]]
            for entry in ZOO
            if wanted(entry).delivery == "plaintext"
            and first[queue_ids[recipients[entry.domain]]].why.startswith(RETRIED_AS_PLAINTEXT)
        }
        mark = len(postfix.attempts())
        for queue_id in again:
            postfix.retry(queue_id)
        postfix.wait_for(again, seen_already=mark)
        everything = postfix.attempts()
        yield Matrix(
            scene=scene,
            postfix=postfix,
            dialect=dialect,
            wanted=wanted,
            answers=scene.daemon.ask_all(recipients, dialect),
            attempts={
                domain: [a for a in everything if a.queue_id == queue_ids[recipient]]
                for domain, recipient in recipients.items()
            },
            received={
                domain: scene.received(recipient) for domain, recipient in recipients.items()
            },
        )


def find(name: str) -> ZooEntry:
    """The entry of that name."""
    return next(entry for entry in ZOO if entry.name == name)


def entries(*sections: str) -> tuple[ZooEntry, ...]:
    """The zoo, or these sections of it."""
    return tuple(entry for name in sections or SECTIONS for entry in SECTIONS[name])


def cases(*sections: str) -> list[ParameterSet]:
    """One pytest case per zoo domain, with its requirement ids."""
    return [
        pytest.param(entry, id=entry.name, marks=pytest.mark.req(*entry.requirements))
        for entry in entries(*sections)
    ]


def check(matrix: Matrix, entry: ZooEntry) -> None:
    """Hold the outcome of one domain against the zoo."""
    wanted = matrix.wanted(entry)
    last, received = matrix.attempts[entry.domain][-1], matrix.received[entry.domain]
    story = matrix.tell(entry)
    assert wanted.allows(last.outcome), story
    if last.status != "sent":
        assert not received, story
    else:
        assert len(received) == 1, story
        assert received[0].tls == (last.outcome != "plaintext"), story
        assert received[0].host == last.host, story
        if last.outcome == "verified":
            # RFC 8461 §7.2 (STS-APP-39), RFC 7671 §3 (DANE-80).
            assert received[0].tls_version in ("TLSv1.2", "TLSv1.3"), story
        if last.outcome == wanted.delivery and wanted.received_by is not None:
            assert received[0].host == wanted.received_by, story
    if last.status == "deferred":
        # RFC 8461 §5: neither message nor envelope goes to a host that fails (STS-APP-50).
        assert not matrix.scene.named(f"{LOCAL_PART}@{entry.domain}"), story
