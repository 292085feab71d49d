# SPDX-License-Identifier: Apache-2.0
"""strictmail is killed, restarted and upgraded while mail flows: none is lost, none is weakened."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pytest

from strictmail.lab.zoo import ZOO

from .postfix import Postfix, Submission
from .scene import open_scene, received_text
from .world import READY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from strictmail.lab.net import ReceivedMessage

    from .daemon import Daemon
    from .postfix import Attempt
    from .scene import Scene

pytestmark = pytest.mark.e2e

MESSAGES: Final = 300
INTERRUPTIONS: Final = 3
ROUNDS: Final = 5
"""Queue runs within which everything that can be delivered must have been."""

GOOD: Final = tuple(
    entry
    for entry in ZOO
    if entry.name
    in {
        "good",
        "txt-split",
        "idn",
        "mx-wildcard",
        "mx-first-unlisted",
        "mx-first-bad-certificate",
        "pattern-wildcard",
        "implicit-mx",
        "mx-alias",
        "dane-ee",
        "both",
    }
)
BROKEN: Final = tuple(
    entry
    for entry in ZOO
    if entry.name
    in {
        "mx-expired",
        "mx-self-signed",
        "mx-wrong-name",
        "mx-missing-intermediate",
        "mx-no-starttls",
        "mx-starttls-454",
        "mx-ehlo-refused",
        "mx-broken-tls",
        "mx-unlisted",
        "mx-all-bad",
        "pattern-wildcard-deep",
        "mx-address-text",
        "dane-mismatch",
        "dane-no-starttls",
        "both-dane-fails",
    }
)


@dataclass(slots=True)
class Life:
    """A Postfix that asks strictmail, with a queue that several tests use in turn."""

    scene: Scene
    postfix: Postfix

    @property
    def daemon(self) -> Daemon:
        return self.scene.daemon

    def learn(self) -> None:
        """Let strictmail learn every policy, so that nothing that follows depends on speed."""
        self.daemon.ask_all([entry.domain for entry in (*GOOD, *BROKEN)], "postfix")


@pytest.fixture(scope="module")
def life() -> Iterator[Life]:
    with open_scene("life", ["bookworm"]) as scene:
        postfix = Postfix(scene.world, "bookworm", ca_file=scene.ca_file)
        postfix.start()
        yield Life(scene, postfix)


@pytest.fixture(autouse=True)
def fresh(life: Life) -> None:
    """Every test finds a daemon that runs and an empty queue, whatever the one before did."""
    if not life.daemon.process.is_running():
        life.daemon.start()
    life.postfix.empty_queue()


@dataclass(slots=True)
class Traffic:
    """Messages to good and broken domains in turn."""

    life: Life
    tag: str
    queue_ids: dict[str, str] = field(default_factory=dict)

    def recipients(self) -> Iterator[str]:
        pairs = zip(itertools.cycle(GOOD), itertools.cycle(BROKEN), strict=False)
        for number, (good, broken) in enumerate(itertools.islice(pairs, MESSAGES // 2)):
            yield f"{self.tag}-{number}@{good.domain}"
            yield f"{self.tag}-{number}@{broken.domain}"

    def flow(self, interrupt: Callable[[], None]) -> dict[str, Attempt]:
        """Hand in everything, interrupt on the way; the first attempt of each recipient."""
        recipients = list(self.recipients())
        part = MESSAGES // (INTERRUPTIONS + 1)
        for start in range(0, MESSAGES, part):
            flowing = threading.Event()
            with ThreadPoolExecutor(1) as pool:
                done = pool.submit(self._hand_in, recipients[start : start + part], flowing)
                assert flowing.wait(READY_SECONDS), done.exception(timeout=0)
                if start + part < MESSAGES:
                    interrupt()
                done.result()
        self.life.postfix.wait_for(self.queue_ids.values())
        recipient_of = {queue_id: recipient for recipient, queue_id in self.queue_ids.items()}
        first: dict[str, Attempt] = {}
        for attempt in self.life.postfix.attempts():
            if attempt.queue_id in recipient_of:
                first.setdefault(recipient_of[attempt.queue_id], attempt)
        return first

    def _hand_in(self, recipients: Sequence[str], flowing: threading.Event) -> None:
        with Submission(self.life.scene.world) as submission:
            for number, recipient in enumerate(recipients):
                self.queue_ids[recipient] = submission.submit(recipient)
                if number == len(recipients) // 4:
                    flowing.set()

    def deliver_the_rest(self) -> None:
        """Run the queue until nothing is left that can be delivered."""
        postfix, good = self.life.postfix, {entry.domain for entry in GOOD}
        for _ in range(ROUNDS):
            waiting = set(postfix.queue())
            late = {
                queue_id
                for recipient, queue_id in self.queue_ids.items()
                if queue_id in waiting and recipient.partition("@")[2] in good
            }
            if not late:
                return
            mark = len(postfix.attempts())
            postfix.flush()
            postfix.wait_for(late, seen_already=mark)

    def check(self) -> None:
        """No mail is lost, and none went where, or how, it must not go."""
        waiting = set(self.life.postfix.queue())
        attempts = self.life.postfix.attempts()
        by_recipient: dict[str, list[ReceivedMessage]] = {m: [] for m in self.recipients()}
        for message in self.life.scene.received():
            if message.recipients[0] in by_recipient:
                by_recipient[message.recipients[0]].append(message)
        for entry in GOOD:
            for recipient in (r for r in by_recipient if r.endswith(f"@{entry.domain}")):
                said = "\n".join(str(a) for a in attempts if a.recipient == recipient)
                story = f"{said}\n{received_text(by_recipient[recipient])}"
                assert by_recipient[recipient], f"{recipient} is lost\n{story}"
                assert all(m.tls for m in by_recipient[recipient]), story
                sent = [a for a in attempts if a.recipient == recipient and a.status == "sent"]
                assert [a.outcome for a in sent] == ["verified"], story
        for entry in BROKEN:
            for recipient in (r for r in by_recipient if r.endswith(f"@{entry.domain}")):
                said = "\n".join(str(a) for a in attempts if a.recipient == recipient)
                story = f"{said}\n{received_text(by_recipient[recipient])}"
                assert not by_recipient[recipient], f"{recipient} is weakened\n{story}"
                assert self.queue_ids[recipient] in waiting, f"{recipient} is lost\n{story}"


def kill(daemon: Daemon) -> None:
    daemon.kill()
    daemon.start()


def restart(daemon: Daemon) -> None:
    daemon.stop()
    daemon.start()


def upgrade(daemon: Daemon) -> None:
    daemon.upgrade()


@pytest.mark.req("STS-APP-50", "STS-APP-55", "STS-FET-44")
@pytest.mark.parametrize("way", [kill, restart, upgrade])
def test_nothing_is_lost_or_weakened(life: Life, way: Callable[[Daemon], None]) -> None:
    life.learn()
    traffic = Traffic(life, way.__name__)
    first = traffic.flow(lambda: way(life.daemon))
    if way is upgrade:  # a hand-over loses no lookup: not even a deferral
        good = {entry.domain for entry in GOOD}
        late = [a for r, a in first.items() if r.partition("@")[2] in good and a.status != "sent"]
        assert not late, "\n".join(map(str, late))
    life.daemon.wait_for_predecessors()
    traffic.deliver_the_rest()
    traffic.check()


def test_the_first_message_to_a_domain_already_has_its_policy(life: Life) -> None:
    # Nobody asked before: strictmail learns the policy while Postfix waits for the answer.
    life.daemon.kill()
    life.daemon.forget()
    life.daemon.start()
    queue_ids = life.postfix.submit(f"first@{entry.domain}" for entry in (*GOOD, *BROKEN))
    attempts = life.postfix.wait_for(queue_ids.values())
    for entry in (*GOOD, *BROKEN):
        attempt = attempts[queue_ids[f"first@{entry.domain}"]]
        assert attempt.outcome == entry.expect.delivery, f"{entry.fault}\n{attempt}"


@pytest.mark.req("STS-FET-29", "STS-FET-44")
def test_a_learnt_policy_outlives_a_kill_and_a_dead_policy_host(life: Life) -> None:
    life.learn()
    entry = next(entry for entry in BROKEN if entry.expect.level == "secure")
    before = life.daemon.ask(entry.domain)
    assert before.startswith("OK secure "), before
    life.scene.lab.do(lambda lab: lab.break_policy_host(entry.domain, "refuse"))
    kill(life.daemon)
    assert life.daemon.ask(entry.domain) == before
    attempt = life.postfix.deliver(f"outlives@{entry.domain}")
    assert attempt.outcome == "deferred", str(attempt)
    assert not life.scene.received(f"outlives@{entry.domain}")


def test_a_dead_daemon_stops_the_mail_and_its_return_releases_it(life: Life) -> None:
    life.learn()
    entry = GOOD[0]
    life.daemon.kill()
    attempt = life.postfix.deliver(f"dead@{entry.domain}")
    assert (attempt.outcome, attempt.dsn) == ("deferred", "4.7.5"), str(attempt)
    life.daemon.start()
    mark = len(life.postfix.attempts())
    life.postfix.flush()
    again = life.postfix.wait_for([attempt.queue_id], seen_already=mark)[attempt.queue_id]
    assert again.outcome == "verified", str(again)


def test_query_prints_what_postfix_is_told(life: Life) -> None:
    life.learn()
    told = life.daemon.ask(GOOD[0].domain)
    assert told in life.daemon.run("query", GOOD[0].domain)


@pytest.mark.req("STS-APP-56", "STS-APP-57", "STS-APP-64", "STS-FET-41")
def test_a_repaired_policy_releases_the_mail_that_waits(life: Life) -> None:
    entry = next(entry for entry in ZOO if entry.change is not None)
    life.daemon.ask(entry.domain)
    attempt = life.postfix.deliver(f"repaired@{entry.domain}")
    assert attempt.outcome == "deferred", str(attempt)
    life.scene.lab.do(lambda lab: lab.change(entry.domain))
    life.scene.nameservers.republish()
    life.daemon.run("cache", "refresh", entry.domain)
    mark = len(life.postfix.attempts())
    life.postfix.flush()
    again = life.postfix.wait_for([attempt.queue_id], seen_already=mark)[attempt.queue_id]
    assert entry.change is not None
    assert again.outcome == entry.change.expect.delivery, str(again)
