# SPDX-License-Identifier: Apache-2.0
"""Short ways to write the zoo's table down.

In every text of an entry `@` stands for its domain, as in zone files.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from strictmail.core.decision import Level
from strictmail.lab.entries import (
    Change,
    Cut,
    Delivery,
    Departure,
    Expectation,
    MxHost,
    Outcome,
    PolicyHost,
    Unseen,
    ZooEntry,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from strictmail.core.tlsrpt.results import ResultType

GOOD_TXT: Final = (("v=STSv1; id=20260101;",),)
UNDATED_TXT: Final = (("v=STSv1; id=1;",),)
"""For a policy in testing: an id that is a date says since when it has been tested."""

MX: Final = MxHost("mx.@")
"""The MX host of most entries: nothing is wrong with it."""

WEEK_SECONDS: Final = "604800"


def policy_body(
    *mx: str,
    mode: str = "enforce",
    max_age: str = WEEK_SECONDS,
    before: Sequence[str] = (),
    after: Sequence[str] = (),
) -> bytes:
    """A policy in the form that every parser accepts, with further lines before and after."""
    lines = ["version: STSv1", *before, f"mode: {mode}", *(f"mx: {pattern}" for pattern in mx)]
    lines += [f"max_age: {max_age}", *after]
    return "".join(f"{line}\r\n" for line in lines).encode()


ENFORCE: Final = PolicyHost(policy_body("mx.@"))
TESTING: Final = PolicyHost(policy_body("mx.@", mode="testing", max_age="86400"))


def outcome(
    level: Level | None,
    delivery: Delivery,
    by: str | None = "mx.@",
    *,
    or_delivery: Delivery | None = None,
) -> Outcome:
    """What a sender has to see; nobody receives what does not arrive."""
    arrives = delivery in (Delivery.VERIFIED, Delivery.ENCRYPTED, Delivery.PLAINTEXT)
    return Outcome(level, delivery, by if arrives else None, or_delivery)


def expect(
    why: str,
    dane: Outcome,
    plain: Outcome | None = None,
    *,
    dane_only: Outcome | None = None,
    opportunistic: Outcome | None = None,
    result_type: ResultType | None = None,
) -> Expectation:
    """What must happen.

    Args:
        why: The reason.
        dane: For a sender with DANE and MTA-STS.
        plain: For one with MTA-STS; without, DANE makes no difference.
        dane_only: For one with DANE; without, MTA-STS makes no difference to it.
        opportunistic: For one that verifies nobody; without, TLS at the host of `plain`, or at
            `mx.@` if the mail waits there, unless `plain` is in the clear or bounced.
        result_type: See `Expectation`.
    """
    without_dane = plain or dane
    if opportunistic is None:
        opportunistic = _opportunistic(without_dane)
    if dane_only is None:
        dane_only = opportunistic if plain is None else replace(dane, level=None)
    return Expectation(dane, without_dane, dane_only, opportunistic, why, result_type)


def _opportunistic(plain: Outcome) -> Outcome:
    if plain.delivery in (Delivery.PLAINTEXT, Delivery.BOUNCED):
        return outcome(None, plain.delivery, plain.received_by)
    return outcome(None, Delivery.ENCRYPTED, plain.received_by or "mx.@")


VERIFIED: Final = outcome(Level.SECURE, Delivery.VERIFIED)
REFUSED: Final = outcome(Level.SECURE, Delivery.DEFERRED)
NO_HOST_ALLOWED: Final = outcome(Level.DEFER, Delivery.DEFERRED)
ENCRYPTED: Final = outcome(Level.NONE, Delivery.ENCRYPTED)
PLAINTEXT: Final = outcome(Level.NONE, Delivery.PLAINTEXT)
WAITS: Final = outcome(None, Delivery.DEFERRED)
"""Of a sender that asks nobody."""

CLEAR: Final = outcome(None, Delivery.PLAINTEXT)


def entry(
    name: str,
    fault: str,
    requirements: str,
    expectation: Expectation,
    *,
    zone: str = "plain.test",
    domain: str = "",
    mx: Sequence[MxHost] = (MX,),
    policy: PolicyHost | None = None,
    txt: tuple[tuple[str, ...], ...] | None = None,
    has_mx_records: bool = True,
    records: Sequence[str] = (),
    cuts: Sequence[Cut] = (),
    change: Change | None = None,
    departs: Sequence[Departure] = (),
    unseen: Unseen | None = None,
) -> ZooEntry:
    """Make an entry; its domain is `name` under `zone` unless given.

    Args:
        name: A slug.
        fault: A sentence.
        requirements: Ids, separated by blanks.
        expectation: What must happen.
        zone: `plain.test`, `signed.test` or `bogus.test`.
        domain: If it does not follow from name and zone.
        mx: See `ZooEntry`; the rest too.
        policy: See `ZooEntry`.
        txt: Without: a good record if there is a policy host.
        has_mx_records: See `ZooEntry`.
        records: See `ZooEntry`.
        cuts: See `ZooEntry`.
        change: See `ZooEntry`.
        departs: See `ZooEntry`.
        unseen: See `ZooEntry`.
    """
    at = domain or f"{name}.{zone}"
    if txt is None:
        txt = GOOD_TXT if policy is not None else ()
    return ZooEntry(
        name=name,
        domain=at,
        fault=fault,
        requirements=tuple(requirements.split()),
        expect=_expectation_at(expectation, at),
        mx=tuple(_host_at(host, at) for host in mx),
        policy=_policy_at(policy, at) if policy is not None else None,
        txt=txt,
        has_mx_records=has_mx_records,
        records=tuple(line.replace("@", at) for line in records),
        cuts=tuple(Cut(cut.name.replace("@", at), cut.kind) for cut in cuts),
        change=_change_at(change, at) if change is not None else None,
        departs=tuple(replace(d, outcome=_outcome_at(d.outcome, at)) for d in departs),
        unseen=unseen,
    )


def _names_at(names: Sequence[str], at: str) -> tuple[str, ...]:
    return tuple(name.replace("@", at) for name in names)


def _host_at(host: MxHost, at: str) -> MxHost:
    return replace(
        host,
        name=host.name.replace("@", at),
        certificate_names=_names_at(host.certificate_names, at),
        tlsa_owner=host.tlsa_owner.replace("@", at),
        canonical=host.canonical.replace("@", at),
    )


def _policy_at(policy: PolicyHost, at: str) -> PolicyHost:
    return replace(
        policy,
        body=policy.body.replace(b"@", at.encode("ascii")),
        certificate_names=_names_at(policy.certificate_names, at),
        canonical=policy.canonical.replace("@", at),
    )


def _outcome_at(found: Outcome, at: str) -> Outcome:
    by = found.received_by
    return replace(found, received_by=by.replace("@", at) if by is not None else None)


def _expectation_at(expectation: Expectation, at: str) -> Expectation:
    return replace(
        expectation,
        dane=_outcome_at(expectation.dane, at),
        plain=_outcome_at(expectation.plain, at),
        dane_only=_outcome_at(expectation.dane_only, at),
        opportunistic=_outcome_at(expectation.opportunistic, at),
    )


def _change_at(change: Change, at: str) -> Change:
    body = change.body.replace(b"@", at.encode("ascii"))
    return Change(change.policy_id, body, _expectation_at(change.expect, at))
