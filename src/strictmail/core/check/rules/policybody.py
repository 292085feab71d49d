# SPDX-License-Identifier: Apache-2.0
"""The policy body, line by line: what breaks its grammar, and what senders only put up with.

The parser (`strictmail.core.sts.policy`) decides what counts and says why; here each of its
sentences gets the line it is about and the place in it. A failed fetch keeps the lines of the body
without the empty ones: so an error is looked for again in those lines, and keeps the number that
it had in the whole body.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from strictmail.core.check.grounds import MAX_REASON_CHARACTERS, say
from strictmail.core.check.result import Evidence
from strictmail.core.check.rules import policykinds as kinds
from strictmail.core.errors import PolicySyntaxError
from strictmail.core.explain import printable
from strictmail.core.sts.fetchrules import policy_url
from strictmail.core.sts.match import is_mx_pattern
from strictmail.core.sts.policy import parse_policy, split_lines
from strictmail.core.sts.values import MAX_MAX_AGE_SECONDS
from strictmail.core.tagrecord import WSP, quote

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from strictmail.core.check.facts import DomainFacts
    from strictmail.core.check.kinds import Kind
    from strictmail.core.check.result import Finding
    from strictmail.core.sts.values import FetchedPolicy, FetchFailure

MAX_KEYS_SAID: Final = 8
"""Repeated or unknown keys that get a finding: a body can have thousands."""

_LINE: Final = re.compile(r"line ([0-9]+)")

_UNDECODABLE: Final = "\N{REPLACEMENT CHARACTER}"

_KNOWN_KEYS: Final = ("version", "mode", "mx", "max_age")

_IS_MISSPELT: Final = "is an unknown key; did you mean"
"""How the parser's warning on a key reads."""


def find_invalid(facts: DomainFacts, failure: FetchFailure, paste: str) -> Finding:
    """A body that is no policy.

    Args:
        facts: Of the domain.
        failure: A failed fetch with `reason_code` `syntax`.
        paste: A policy that fits.
    """
    return kinds.INVALID.found(
        policy_url(facts.domain),
        f"The policy is malformed: {say(failure.reason)}.",
        _place(failure),
        paste=paste,
    )


def _place(failure: FetchFailure) -> Evidence:
    """The line at fault with a caret under the place; without a line, the end of the body."""
    lines = failure.lines
    said = _LINE.match(failure.reason)
    broken = next((i for i, line in enumerate(lines) if _UNDECODABLE in line), None)
    if broken is not None and "is not UTF-8" in failure.reason:
        place = (broken, lines[broken].index(_UNDECODABLE))
    else:
        place = _parse_again(lines, failure.reason) or (0, -1)
    index, caret = place
    number = int(said[1]) if said is not None else index + 1
    if caret < 0:
        # The fault is behind the lines that were kept.
        return Evidence(f"policy line {number}", "")
    text = lines[index] if lines else ""
    return Evidence(f"policy line {number}", text, min(caret, len(text)))


def _parse_again(lines: Sequence[str], reason: str) -> tuple[int, int] | None:
    """Index and offset of the fault in these lines; the end of the last one if a line is missing.

    None if these lines have another fault: they are not all of the body.
    """
    try:
        parse_policy("\n".join(lines).encode())
    except PolicySyntaxError as error:
        if _LINE.sub("", str(error), 1) != _LINE.sub("", reason, 1):
            return None
        if error.line is None:
            return (len(lines) - 1, len(lines[-1])) if lines else (0, 0)
        index = error.line - 1
        if error.position is not None:
            return index, error.position
        # The error has the value, or the key, that it is about.
        return index, _offset(lines[index], error.text)
    return None


def _offset(line: str, text: str) -> int:
    """Where a value stands in its line; a key stands first."""
    if line.startswith(f"{text}:"):
        return 0
    return max(0, line.find(text, line.find(":") + 1))


def judge_body(facts: DomainFacts, fetched: FetchedPolicy) -> Iterator[Finding]:
    """What senders put up with in a policy that counts."""
    lines = split_lines(fetched.body.decode("utf-8", "replace"))
    empty = [number for number, line in enumerate(lines, 1) if not line]
    url = policy_url(facts.domain)
    if empty:
        yield kinds.EMPTY_LINES.found(
            url,
            f"{len(empty)} empty line{'s' if len(empty) > 1 else ''} in the policy.",
            Evidence(f"policy line {empty[0]}", "", 0),
        )
    yield from _bad_values(url, lines)
    yield from _misspelt(url, lines, fetched.policy.warnings)
    yield from _keys(url, lines, fetched.policy.warnings)


def _bad_values(url: str, lines: Sequence[str]) -> Iterator[Finding]:
    said = 0
    seen_max_age = False
    for number, line in enumerate(lines, 1):
        key, _, rest = line.partition(":")
        value = rest.strip(WSP)
        if key == "mx" and not is_mx_pattern(value) and said < MAX_KEYS_SAID:
            said += 1
            yield _at_value(kinds.BAD_MX, url, number, line, f"{quote(value)} is no mx pattern.")
        if key == "max_age" and not seen_max_age:
            seen_max_age = True
            if value.isascii() and value.isdigit() and int(value) > MAX_MAX_AGE_SECONDS:
                sentence = f"max_age is {value}; {MAX_MAX_AGE_SECONDS} is the most that counts."
                paste = f"max_age: {MAX_MAX_AGE_SECONDS}"
                yield _at_value(kinds.CAPPED, url, number, line, sentence, paste)


def _at_value(
    kind: Kind, url: str, number: int, line: str, sentence: str, paste: str = ""
) -> Finding:
    value = line.partition(":")[2].strip(WSP)
    caret = line.find(value, line.find(":") + 1)
    return kind.found(
        url,
        f"Line {number}: {sentence}",
        Evidence(f"policy line {number}", line, max(0, caret)),
        paste=paste,
    )


def _misspelt(url: str, lines: Sequence[str], warnings: Sequence[str]) -> Iterator[Finding]:
    for warning in warnings:
        said = _LINE.match(warning)
        if said is None or _IS_MISSPELT not in warning:
            continue
        line = lines[int(said[1]) - 1]
        meant = warning.rpartition("`")[0].rpartition("`")[2]
        yield kinds.MISSPELT.found(
            url,
            printable(warning[0].upper() + warning[1:], MAX_REASON_CHARACTERS),
            Evidence(f"policy line {said[1]}", line, 0),
            paste=f"{meant}{printable(line.partition(':')[2])}",
        )


def _keys(url: str, lines: Sequence[str], warnings: Sequence[str]) -> Iterator[Finding]:
    """Keys that are repeated, or unknown and like no known one."""
    misspelt = {
        int(said[1])
        for warning in warnings
        if _IS_MISSPELT in warning and (said := _LINE.match(warning)) is not None
    }
    seen: dict[str, int] = {}
    unknown = []
    for number, line in enumerate(lines, 1):
        key = line.partition(":")[0]
        if not key or key == "mx":
            continue
        if key in seen:
            if seen[key] == 1 and len(seen) <= MAX_KEYS_SAID:
                yield kinds.REPEATED.found(
                    url,
                    f"Line {number}: {quote(key)} is repeated; the first one counts.",
                    Evidence(f"policy line {number}", line, 0),
                )
            seen[key] += 1
            continue
        seen[key] = 1
        if key not in _KNOWN_KEYS and number not in misspelt:
            unknown.append((number, line))
    for number, line in unknown[:MAX_KEYS_SAID]:
        yield kinds.UNKNOWN_KEY.found(
            url,
            f"Line {number}: {quote(line.partition(':')[0])} is an unknown key.",
            Evidence(f"policy line {number}", line, 0),
        )
