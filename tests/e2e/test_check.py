# SPDX-License-Identifier: Apache-2.0
"""`strictmail check` predicts, real Postfix delivers: the two agree on every domain of the zoo.

The check runs in a world of its own, over knot, unbound and the lab's hosts; each kind of sender
is a Postfix in another one. A prediction that disagrees with a delivery is a defect of the check;
what a check cannot see is declared in the zoo, with its reason.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pytest

from strictmail.lab.zoo import ZOO

from .daemon import PLAIN
from .matrix import Matrix, cases, check, open_matrix
from .scene import expected, open_scene

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from strictmail.lab.entries import Outcome, ZooEntry

pytestmark = pytest.mark.e2e

WORDS: Final = {"authenticated": "verified"}
"""A prediction's word in the zoo's, where it differs."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of sender, played by a Postfix.

    Attributes:
        sender: As in `result.SenderClass`.
        listener: What it asks strictmail by.
        extra: Lines of main.cf that make it so.
    """

    sender: str
    listener: str
    extra: dict[str, str] = field(default_factory=dict)

    def wanted(self, entry: ZooEntry) -> Outcome:
        """What has to become of a message; a Postfix this old cannot do all of it."""
        if self.sender == "mta-sts":
            return expected(entry, "postfix", dane=False)
        return entry.expect.of(self.sender)


KINDS: Final = (
    Kind("mta-sts", PLAIN, {"smtp_dns_support_level": "enabled"}),
    Kind(
        "dane",
        "postfix",
        {"smtp_tls_policy_maps": "", "smtp_tls_security_level": "dane"},
    ),
    Kind(
        "opportunistic",
        "postfix",
        {"smtp_tls_policy_maps": "", "smtp_dns_support_level": "enabled"},
    ),
)
"""The kind that does both is the matrix of `test_postfix`."""


@pytest.fixture(scope="module")
def results() -> Iterator[Mapping[str, Any]]:
    """What a check says of every zoo domain."""
    with open_scene("check", ["bookworm"]) as scene:
        world = scene.world
        source = world.write("domains.txt", "".join(f"{entry.domain}\n" for entry in ZOO))
        out = world.directory / "results.jsonl"
        scene.daemon.run(
            "check",
            "--from",
            str(source),
            "--out",
            str(out),
            "--resolver",
            "127.0.0.1",
            "--ca-file",
            scene.ca_file,
            "--allow-network",
            "127.0.0.0/8",
            "--timeout",
            "40s",
            "--quiet",
            "--fail-on",
            "never",
        )
        lines = [json.loads(line) for line in out.read_text("utf-8").split("\n") if line]
        yield {line["domain"]: line for line in lines}


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.sender)
def sent(request: pytest.FixtureRequest) -> Iterator[tuple[Kind, Matrix]]:
    """What a Postfix of that kind did with mail to every zoo domain."""
    kind: Kind = request.param
    with open_matrix("bookworm", kind.listener, kind.extra, kind.wanted) as matrix:
        yield kind, matrix


@pytest.mark.parametrize("entry", cases())
def test_postfix_does_what_the_zoo_says(sent: tuple[Kind, Matrix], entry: ZooEntry) -> None:
    check(sent[1], entry)


@pytest.mark.parametrize("sender", ["mta-sts", "dane", "both", "opportunistic"])
@pytest.mark.parametrize("entry", cases())
def test_the_verdict_is_what_the_zoo_says(
    results: Mapping[str, Any], entry: ZooEntry, sender: str
) -> None:
    result = results[entry.domain]
    (verdict,) = (one for one in result["senders"] if one["sender"] == sender)
    said = WORDS.get(verdict["prediction"], verdict["prediction"])
    assert entry.allows_verdict(sender, said), (entry.fault, verdict, result["verdicts"])


@pytest.mark.parametrize("entry", cases())
def test_the_findings_are_what_the_zoo_says(results: Mapping[str, Any], entry: ZooEntry) -> None:
    findings = results[entry.domain]["findings"]
    found = {(finding["severity"], finding["id"]) for finding in findings}
    declared = set(entry.findings)
    story = (entry.fault, [finding["sentence"] for finding in findings])
    assert alarms(found) == alarms(declared), story
    assert declared <= found, story


def alarms(findings: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """What is no note: nothing more may be said of a domain, and nothing less."""
    return {one for one in findings if one[0] in ("critical", "warning", "unknown")}
