# SPDX-License-Identifier: Apache-2.0
"""The words that all formats for people share: one name for each thing, whatever the format."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Final, NamedTuple

from strictmail.core.check.result import Prediction, SenderClass, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from strictmail.core.check.result import Certificate, CheckResult, HostResult, SenderVerdict

_DAY: Final = 86_400

SEVERITY_ORDER: Final = (
    Severity.CRITICAL,
    Severity.WARNING,
    Severity.UNKNOWN,
    Severity.INFO,
    Severity.OK,
)
"""The worst first, as the judge has it: what is certain weighs more than what nobody could see."""


class SenderWords(NamedTuple):
    """How a kind of sender is called.

    Attributes:
        short: For the head of a column.
        long: For a row.
        example: Who that is.
    """

    short: str
    long: str
    example: str


SENDERS: Final = {
    SenderClass.MTA_STS: SenderWords("MTA-STS", "MTA-STS only", "such as Gmail"),
    SenderClass.DANE: SenderWords("DANE", "DANE only", "such as Postfix with level dane"),
    SenderClass.BOTH: SenderWords(
        "both", "MTA-STS and DANE", "such as Exchange Online, or Postfix with strictmail"
    ),
    SenderClass.OPPORTUNISTIC: SenderWords(
        "neither", "neither of them", "uses TLS if it is offered, verifies nobody"
    ),
    SenderClass.CACHED: SenderWords(
        "cached", "MTA-STS, cached", "with a policy from an earlier look"
    ),
}


class PredictionWords(NamedTuple):
    """How an outcome is told.

    Attributes:
        word: For a cell: what happens to the message.
        sign: One character that says the same without colour.
        meaning: For a legend.
        tone: `good`, `fair`, `bad` or `unknown`: which colour.
    """

    word: str
    sign: str
    meaning: str
    tone: str


PREDICTIONS: Final = {
    Prediction.AUTHENTICATED: PredictionWords(
        "verified", "✓", "delivered over TLS to a host that was verified", "good"
    ),
    Prediction.ENCRYPTED: PredictionWords(
        "encrypted", "~", "delivered over TLS, nobody verified to whom", "fair"
    ),
    Prediction.PLAINTEXT: PredictionWords("plaintext", "!", "delivered in the clear", "bad"),
    Prediction.DEFERRED: PredictionWords(
        "waits", "✗", "not delivered now; after days it comes back", "bad"
    ),
    Prediction.BOUNCED: PredictionWords("bounces", "✗", "comes back at once", "bad"),
    Prediction.UNKNOWN: PredictionWords("unknown", "?", "nobody could look", "unknown"),
}

BY: Final = {"dane": "by DANE", "pkix": "by web PKI"}

STATUS_TONES: Final = {
    Severity.OK: "good",
    Severity.INFO: "note",
    Severity.WARNING: "fair",
    Severity.CRITICAL: "bad",
    Severity.UNKNOWN: "unknown",
}

_TLSA: Final = {
    "not-asked": "not looked at",
    "not-applicable": "does not apply: addresses not signed",
    "none": "no TLSA records",
    "usable": "usable TLSA records",
    "unusable": "TLSA records, none usable",
    "error": "TLSA lookup failed",
    "no-address": "no address",
}
_NO_TLSA_BEHIND: Final = {
    # RFC 7672 §2.2.1: behind an insecure MX RRset, DANE has no say (DANE-23).
    "insecure": "MX records not signed",
    "indeterminate": "not known whether the MX records are signed",
    "bogus": "the signatures of the MX records are broken",
}
"""Why nobody asks for TLSA records, by the state of the MX set."""

_MX: Final = {
    "found": "",
    "implicit": "no MX record: the domain itself takes its mail",
    "configured": "a host given by name, without MX lookup",
    "null": "null MX: the domain takes no mail",
    "nxdomain": "the domain does not exist",
    "error": "the MX lookup failed",
}


def prediction_word(prediction: Prediction, by: str) -> str:
    """`verified by DANE`, `waits`."""
    word = PREDICTIONS[prediction].word
    return f"{word} {BY[by]}" if by in BY else word


def outcome_tone(result: CheckResult, prediction: Prediction) -> str:
    """The tone of an outcome: that mail bounces is nothing bad where the owner wants it."""
    if prediction is Prediction.BOUNCED and result.mx_status == "null":
        return "note"
    return PREDICTIONS[prediction].tone


def is_likely(verdict: SenderVerdict) -> bool:
    """Whether an outcome is known, though not for certain: of `unknown` that goes without saying."""
    return not verdict.certain and verdict.prediction is not Prediction.UNKNOWN


def tlsa_words(result: CheckResult, state: str) -> str:
    """What DANE says of a host."""
    if state == "not-asked" and result.dnssec in _NO_TLSA_BEHIND:
        return f"does not apply: {_NO_TLSA_BEHIND[result.dnssec]}"
    return _TLSA.get(state, state)


def mx_words(result: CheckResult) -> str:
    """The MX set in words: how many hosts, or why none, and whether it is signed."""
    hosts = count(len(result.hosts), "host")
    said = _MX.get(result.mx_status, result.mx_status)
    parts = [said] if said else [hosts]
    signed = {"secure": "signed", "insecure": "not signed", "bogus": "signatures broken"}
    parts.append(signed.get(result.dnssec, "not known whether signed"))
    if result.receiver:
        parts.append(result.receiver)
    return ", ".join(parts)


def sts_words(result: CheckResult) -> str:
    """MTA-STS in words."""
    sts = result.sts
    if not sts.mode:
        return sts.failure or ("no policy" if sts.record else "none")
    parts = [f"mode {sts.mode}"]
    if sts.max_age is not None:
        parts.append(f"max_age {sts.max_age} s ({age(sts.max_age)})")
    if sts.policy_id:
        parts.append(f"id {sts.policy_id}")
    if sts.mx_patterns:
        return f"{', '.join(parts)}; mx: {', '.join(sts.mx_patterns)}"
    return ", ".join(parts)


def dane_words(result: CheckResult) -> str:
    """DANE of all hosts in words."""
    states = [host.tlsa_state for host in result.hosts]
    if not states:
        return "no hosts"
    if len(set(states)) == 1:
        return tlsa_words(result, states[0])
    return "; ".join(
        f"{tlsa_words(result, state)} ({states.count(state)} of {len(states)} hosts)"
        for state in dict.fromkeys(states)
    )


def tlsrpt_words(result: CheckResult) -> str:
    """TLSRPT in words."""
    if result.tlsrpt.rua:
        return ", ".join(result.tlsrpt.rua)
    return "a record without a usable destination" if result.tlsrpt.record else "none"


def leaves(result: CheckResult) -> Iterator[tuple[HostResult, str, str, Certificate]]:
    """The first certificate of each chain: host, address, key type, certificate."""
    for host in result.hosts:
        for address in host.addresses:
            for chain in address.chains:
                if chain.certificates:
                    yield host, address.address, chain.key_type, chain.certificates[0]


def days_left(result: CheckResult, moment: datetime) -> int:
    """Whole days from the check to a moment; below 0 when it was over."""
    return int((moment - result.checked_at).total_seconds() // _DAY)


def soonest(result: CheckResult) -> tuple[str, datetime, int] | None:
    """The leaf that ends first: its host, its end and the days left; None without certificates."""
    found = min(leaves(result), key=lambda leaf: leaf[3].not_after, default=None)
    if found is None:
        return None
    host, _, _, certificate = found
    return host.name, certificate.not_after, days_left(result, certificate.not_after)


def certificate_words(result: CheckResult) -> str:
    """The certificates in words."""
    found = soonest(result)
    if found is None:
        return "none seen"
    name, end, left = found
    if left < 0:
        return f"ended on {day(end)}: {name}"
    return f"the first ends on {day(end)}, in {count(left, 'day')}: {name}"


def validity(result: CheckResult, certificate: Certificate) -> str:
    """`2026-08-24 to 2026-11-22, 61 days left`."""
    left = days_left(result, certificate.not_after)
    end = f"{count(left, 'day')} left" if left >= 0 else "over"
    return f"{day(certificate.not_before)} to {day(certificate.not_after)}, {end}"


def published(result: CheckResult) -> list[tuple[str, str]]:
    """What the domain has, a line each: name and words. Foreign text is in it as it came."""
    return [
        ("MX", mx_words(result)),
        ("MTA-STS", sts_words(result)),
        ("DANE", dane_words(result)),
        ("TLSRPT", tlsrpt_words(result)),
        ("Certificates", certificate_words(result)),
    ]


def policy_words(*, on_policy: bool | None) -> str:
    """Whether the policy allows a host."""
    return {True: "allowed by the policy", False: "not in the policy", None: "no policy"}[on_policy]


def cited(source: str, requirement: str) -> str:
    """Where a finding comes from: section and requirement; "" for neither."""
    return ", ".join(part for part in (source, requirement) if part)


def count(number: int, noun: str) -> str:
    """`1 host`, `3 hosts`."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"


def tally(severities: Iterable[Severity]) -> str:
    """`2 critical, 1 warning`: the worst first; "" for none."""
    found = list(severities)
    return ", ".join(
        _tallied(severity, found.count(severity))
        for severity in SEVERITY_ORDER
        if severity in found
    )


def _tallied(severity: Severity, number: int) -> str:
    nouns = {Severity.WARNING: "warning", Severity.INFO: "note"}
    if severity in nouns:
        return count(number, nouns[severity])
    return f"{number} {severity.value}"


def worst_results_first(results: Sequence[CheckResult]) -> list[CheckResult]:
    """In the order in which an operator wants to read them; equals stay in order."""
    return sorted(results, key=lambda result: SEVERITY_ORDER.index(result.status))


def instant(moment: datetime) -> str:
    """`2026-01-31 12:00 UTC`."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def day(moment: datetime) -> str:
    """`2026-01-31`."""
    return f"{moment.astimezone(UTC):%Y-%m-%d}"


def age(seconds: int) -> str:
    """A max_age in its largest fitting unit."""
    for size, noun in ((_DAY, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            return count(seconds // size, noun)
    return count(seconds, "second")
