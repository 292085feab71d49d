# SPDX-License-Identifier: Apache-2.0
"""Domains that only test, from end to end: Postfix verifies nothing, and a probe says what it was."""

from __future__ import annotations

import json
import signal
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pytest

from strictmail.lab.zoo import ZOO

from .collecting import read_counts, start_collector, summarise
from .matrix import LOCAL_PART
from .postfix import Postfix
from .scene import open_scene
from .world import CHECKOUT, READY_SECONDS, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .collecting import Told
    from .scene import Scene
    from .world import Process

pytestmark = pytest.mark.e2e

TESTING: Final = tuple(entry for entry in ZOO if entry.name.startswith("testing"))

ANNOTATE: Final = '\n[decision]\ntesting = "annotate"\n'

CONFIGURATION: Final = """\
state_directory = "{directory}/state"
[dns]
servers = ["127.0.0.1:53"]
[policy]
allow_networks = ["127.0.0.0/8"]
[check]
ca_file = "{ca_file}"
ehlo_name = "probe.sender.test"
port25_canaries = []
[reporter]
organization = "Sender"
contact = "tls-reports@sender.test"
mail = "off"
probe_testing = true
"""

BEFORE: Final = {
    "testing": "1 unverified",
    "testing-bad-certificate": "1 unverified",
    "testing-against-mx": "1 unverified",
    "testing-no-starttls": "",
}
"""What Postfix tells: of clear text nothing at all."""

AFTER: Final = {
    "testing": "1 sts success",
    "testing-bad-certificate": "1 sts certificate-not-trusted",
    "testing-against-mx": "1 sts validation-failure",
    "testing-no-starttls": "",
}


@dataclass(frozen=True, slots=True)
class Probed:
    """What was told, what is there after the probes, and who was named to MX hosts meanwhile."""

    scene: Scene
    before: dict[str, str]
    after: dict[str, str]
    named_before: int
    named_after: int

    def command(self, *words: str) -> str:
        return strictmail(self.scene, *words)


def strictmail(scene: Scene, *words: str) -> str:
    return scene.world.run(
        [sys.executable, "-m", "strictmail", *words, "--config", str(config_of(scene))],
        environment={"PYTHONPATH": str(CHECKOUT / "src"), "PYTHONDONTWRITEBYTECODE": "1"},
    )


def config_of(scene: Scene) -> object:
    return scene.world.directory / "reporter.toml"


def told(scene: Scene) -> dict[str, str]:
    """What the store holds of each domain."""
    counts = read_counts(scene)
    return {entry.name: words(counts, entry.domain) for entry in TESTING}


def words(counts: dict[str, Any], domain: str) -> str:
    found: Told = summarise(counts.get(domain))
    waiting = (
        sum(of.unverified for of in counts[domain].policies.values()) if domain in counts else 0
    )
    known = [f"{n} {kind} {result or 'success'}" for (kind, result), n in found.by_type.items()]
    return ", ".join([*known, *([f"{waiting} unverified"] if waiting else [])])


@contextmanager
def reporting(scene: Scene) -> Iterator[Process]:
    """`strictmail serve reporter`, which probes."""
    text = CONFIGURATION.format(directory=scene.world.directory, ca_file=scene.ca_file)
    config = scene.world.write("reporter.toml", text)
    process = scene.world.start(
        "reporter",
        [
            sys.executable, "-m", "strictmail",
            "serve", "reporter", "--http", "", "--config", str(config),
        ],
        environment={"PYTHONPATH": str(CHECKOUT / "src"), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    yield process
    process.kill(signal.SIGTERM)
    assert process.wait() == 0, process.tail()


@pytest.fixture(scope="module")
def probed() -> Iterator[Probed]:
    with open_scene(
        "probing", ["trixie"], warm=TESTING, dialect="postfix-tlsrpt", extra=ANNOTATE
    ) as scene:
        collector = start_collector(scene)
        postfix = Postfix(
            scene.world,
            "trixie",
            ca_file=scene.ca_file,
            socketmap=scene.daemon.socketmap("postfix-tlsrpt"),
            extra={
                "smtp_tlsrpt_enable": "yes",
                "smtp_tlsrpt_socket_name": f"{scene.world.directory}/tlsrpt",
                "smtp_tlsrpt_skip_reused_handshakes": "no",
            },
        )
        postfix.start()
        ids = postfix.submit(f"{LOCAL_PART}@{entry.domain}" for entry in TESTING)
        postfix.wait_for(ids.values())
        collector.kill(signal.SIGTERM)
        assert collector.wait() == 0, collector.tail()
        before = told(scene)
        named = len(scene.lab.do(lambda lab: list(lab.recipients)))
        with reporting(scene) as reporter:
            wait_until(
                lambda: not any("unverified" in text for text in told(scene).values()),
                "the probes",
                seconds=READY_SECONDS,
                seen=lambda: f"{told(scene)}\n{reporter.tail()}",
            )
            after = told(scene)
        named_after = len(scene.lab.do(lambda lab: list(lab.recipients)))
        yield Probed(scene, before, after, named, named_after)


@pytest.mark.req("RPT-JSON-24")
def test_postfix_verifies_nothing_where_a_policy_tests(probed: Probed) -> None:
    assert probed.before == BEFORE


@pytest.mark.req("RPT-JSON-24", "RPT-JSON-26", "RPT-JSON-44")
def test_a_probe_says_what_the_sessions_were(probed: Probed) -> None:
    assert probed.after == AFTER


def test_a_probe_sends_no_mail(probed: Probed) -> None:
    assert probed.named_after == probed.named_before == len(TESTING)


@pytest.mark.req("RPT-JSON-26", "RPT-JSON-48")
def test_the_report_says_what_a_probe_found(probed: Probed) -> None:
    today = datetime.now(UTC).date().isoformat()
    domain = next(entry.domain for entry in TESTING if entry.name == "testing-bad-certificate")
    document = json.loads(probed.command("report", "render", domain, "--day", today))
    (part,) = document["policies"]
    assert part["policy"]["policy-type"] == "sts"
    assert "mode: testing" in part["policy"]["policy-string"]
    (detail,) = part["failure-details"]
    assert detail["failure-reason-code"] == "probe: self-signed"
    assert detail["receiving-mx-hostname"] == f"mx.{domain}"
    assert "probe" in detail["additional-information"]
    assert "receiving-ip" not in detail
