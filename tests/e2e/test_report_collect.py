# SPDX-License-Identifier: Apache-2.0
"""What is counted of one message to each zoo domain: by Postfix's datagrams, and out of its log."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import pytest

from strictmail.core.decision import Level
from strictmail.lab.entries import MxFault
from strictmail.lab.zoo import ZOO

from .collecting import Collected, collect, import_log, read_counts, summarise
from .scene import expected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from strictmail.lab.zoo import ZooEntry

pytestmark = pytest.mark.e2e

NO_SESSION: Final = frozenset({MxFault.TARPIT, MxFault.GREETING_421, MxFault.REFUSE})
"""Faults of MX hosts that do not even greet: busy networks are left out (RPT-JSON-45)."""

ELSEWHERE: Final = {
    # What the zoo's outcome alone does not tell, and why.
    "no-policy-no-starttls": ({}, "clear text without a policy: Postfix tells nobody"),
    "no-policy-broken-tls": (
        {("no-policy-found", "failure"): 1},
        "the handshake failed before the message went in the clear",
    ),
    "mx-rcpt-550": ({("sts", "success"): 1}, "the session was in order, the recipient was not"),
    "null-mx": ({}, "no MX host"),
    "null-mx-enforce": ({}, "no MX host"),
    "signed-null-mx": ({}, "no MX host"),
    "mx-lookup-fails": ({}, "no MX host"),
    "bogus-domain": ({}, "no MX host"),
    "mx-common-name-only": ({("sts", "success"): 1}, "Postfix accepts common names"),
    "dane-partial": (
        {("no-policy-found", "success"): 1},
        "level `dane`, and the first host has no TLSA records",
    ),
    "dane-bogus-address": ({("tlsa", "success"): 1}, "the first host has no address: no session"),
    "both-unusable": ({("sts", "success"): 1}, "no usable TLSA record: the policy decides"),
}

BY_DATAGRAM: Final = {
    "testing-no-starttls": ({}, "clear text at level `may`: Postfix tells nobody"),
    "dane-unusable": ({("no-policy-found", "success"): 1}, "Postfix's word for unusable records"),
    "dane-unknown-mtype": ({("no-policy-found", "success"): 1}, "the same"),
    "dane-unusable-no-starttls": ({("no-policy-found", "failure"): 1}, "the same"),
    "dane-tlsa-bogus": ({}, "no session, and no datagram"),
    "dane-tlsa-servfail": ({}, "no session, and no datagram"),
    "both-tlsa-bogus": ({}, "no session, and no datagram"),
    "dane-tlsa-bogus-first": ({("tlsa", "success"): 1}, "no datagram of a host without a session"),
    "both-partial": ({("tlsa", "success"): 1}, "no datagram of a host without a session"),
    "mx-first-unlisted": ({("sts", "success"): 1}, "no datagram of a host that is off the policy"),
    "mx-first-unlisted-shared-certificate": ({("sts", "success"): 1}, "the same"),
}

BY_LOG: Final = {
    "testing": ({}, "Trusted: nobody compared the name, so that it is unverified"),
    "testing-bad-certificate": ({("sts", "failure"): 1}, "RFC 8461 §5: a failure is reported"),
    "testing-no-starttls": ({("sts", "failure"): 1}, "RFC 8461 §5: a failure is reported"),
    "testing-against-mx": ({("sts", "failure"): 1}, "RFC 8461 §5: a failure is reported"),
    "dane-unusable": ({("tlsa", "failure"): 1}, "RFC 8460 §4.3.2.1: tlsa-invalid"),
    "dane-unknown-mtype": ({("tlsa", "failure"): 1}, "RFC 8460 §4.3.2.1: tlsa-invalid"),
    "dane-tlsa-bogus-first": (
        {("tlsa", "failure"): 1, ("tlsa", "success"): 1},
        "the look-up of the first host failed",
    ),
    "both-partial": (
        {("tlsa", "failure"): 1, ("tlsa", "success"): 1},
        "RFC 8460 §4.3.2.1: dane-required for the host without records",
    ),
}

UNSETTLED: Final = "body-max-age-zero"
"""Its policy is over at once: whether it was in force when the message went, time decides."""

Wanted = Counter[tuple[str, str]]


def wanted(entry: ZooEntry, *, by_log: bool) -> Wanted:
    """Sessions by policy type and result, as the zoo's outcome for a sender with DANE says."""
    special = (BY_LOG if by_log else BY_DATAGRAM).get(entry.name) or ELSEWHERE.get(entry.name)
    if special is not None:
        return Counter(special[0])
    outcome = expected(entry, "postfix" if by_log else "postfix-tlsrpt", dane=True)
    kind = policy_type(outcome.level)
    found: Wanted = Counter()
    if outcome.level is Level.DEFER:
        # No MX host is on the policy: no session, and no datagram.
        return Counter({("sts", "failure"): 1}) if by_log else found
    tried = []
    for host in entry.mx:
        if host.name == outcome.received_by:
            found[kind, "success"] += 1
            break
        tried.append(host)
    for host in tried:
        if host.fault not in NO_SESSION and host.has_address:
            found[kind, "failure"] += 1
    return found


def policy_type(level: Level | None) -> str:
    """What a session is judged under at a level; the zoo leaves it open for `max_age: 0`."""
    if level in (Level.DANE, Level.DANE_ONLY):
        return "tlsa"
    return "no-policy-found" if level is Level.NONE else "sts"


def by_result(collected: Collected, entry: ZooEntry) -> Wanted:
    """The same of what was counted."""
    found: Wanted = Counter()
    counts = collected.counts.get(entry.domain)
    for policy, counted in counts.policies.items() if counts is not None else ():
        found[str(policy.policy_type), "success"] += counted.successes
        found[str(policy.policy_type), "failure"] += counted.failures
    return +found


@pytest.fixture(scope="module")
def datagrams() -> Iterator[Collected]:
    with collect("trixie", "postfix-tlsrpt", {}, by_log=False) as collected:
        assert collected.postfix.version.startswith("3.10.")
        yield collected


@pytest.fixture(scope="module")
def logged() -> Iterator[Collected]:
    with collect("bookworm", "postfix", {}, by_log=True) as collected:
        assert collected.postfix.version.startswith("3.7.")
        yield collected


@pytest.mark.req("RPT-JSON-24", "RPT-JSON-31", "RPT-JSON-55", "RPT-JSON-57")
@pytest.mark.parametrize("entry", ZOO, ids=lambda entry: entry.name)
def test_postfix_3_10_tells_by_datagram(datagrams: Collected, entry: ZooEntry) -> None:
    found = by_result(datagrams, entry)
    assert found == wanted(entry, by_log=False), datagrams.tell(entry.domain)


@pytest.mark.req("RPT-JSON-24", "RPT-JSON-26", "RPT-JSON-44")
@pytest.mark.parametrize(
    "entry", [e for e in ZOO if e.name != UNSETTLED], ids=lambda entry: entry.name
)
def test_the_log_of_postfix_3_7_proves_the_same(logged: Collected, entry: ZooEntry) -> None:
    found = by_result(logged, entry)
    assert found == wanted(entry, by_log=True), logged.tell(entry.domain)


def test_every_datagram_is_counted(datagrams: Collected) -> None:
    told = datagrams.postfix.log.text.count(": TLSRPT: status=")
    counted = sum(
        counted.successes + counted.failures
        for counts in datagrams.counts.values()
        for counted in counts.policies.values()
    )
    assert counted == told


def test_a_log_that_is_read_again_counts_nothing_again(logged: Collected) -> None:
    before = {domain: summarise(counts) for domain, counts in read_counts(logged.scene).items()}
    (logged.scene.world.directory / "state" / "import-log.json").unlink()
    said = import_log(logged.scene.daemon, logged.log)
    assert "\n0 counted now, " in said
    after = {domain: summarise(counts) for domain, counts in read_counts(logged.scene).items()}
    assert after == before


@pytest.mark.req("RPT-JSON-55")
def test_the_log_adds_only_what_no_datagram_told(datagrams: Collected) -> None:
    said = import_log(datagrams.scene.daemon, datagrams.log)
    assert "Postfix has told of them by datagram" in said
    counts = read_counts(datagrams.scene)
    for entry in ZOO:
        before, after = datagrams.told(entry.domain), summarise(counts.get(entry.domain))
        added = after.by_type - before.by_type
        assert not before.by_type - after.by_type
        if expected(entry, "postfix-tlsrpt", dane=True).level is Level.DEFER and entry.mx:
            assert added == Counter({("sts", "validation-failure"): 1}), entry.name
    assert summarise(counts["mx-first-unlisted.plain.test"]).by_type == Counter(
        {("sts", ""): 1, ("sts", "validation-failure"): 1}
    )
