# SPDX-License-Identifier: Apache-2.0
"""The policy body (RFC 8461 §3.2): bytes to `StsPolicy`, and back.

The grammar: lines of `key: value`, each ended by LF or CRLF, the last end optional. Where real
bodies differ from it, this parser does as follows, and says so in `warnings`:

=============================================  =============================================
an empty line                                  skipped (C-04)
one bad `mx` value beside good ones            that line is ignored (C-02)
`max_age` above a year                         capped (C-03)
anything else: comments, blanks before a key   the policy is invalid
or its colon, a byte order mark, a lone CR
=============================================  =============================================

An error names the line and, where a slip is likely, the fix: the checker shows it to owners.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NoReturn

from strictmail.core.errors import PolicySyntaxError
from strictmail.core.sts.match import is_mx_pattern
from strictmail.core.sts.values import MAX_MAX_AGE_SECONDS, MAX_POLICY_BYTES, Mode, StsPolicy
from strictmail.core.tagrecord import WSP, is_extension_name, quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

VERSION: Final = "STSv1"

MAX_AGE_DIGITS: Final = 10
"""RFC 8461 §3.2: one to ten digits."""

MAX_WARNINGS: Final = 16
"""Warnings kept of one body: 64 KiB can hold 16,000 faulty lines."""

MAX_LOOKALIKES: Final = 16
"""Unknown keys that are compared with the known ones, to suggest a fix."""

_KEYS: Final = ("version", "mode", "mx", "max_age")

_MODES: Final = ("enforce", "testing", "none")

_LOOKALIKES: Final = {
    "nmx": "mx",
    "mxs": "mx",
    "mx1": "mx",
    "mx2": "mx",
    "mx_host": "mx",
    "maxage": "max_age",
}

_MODE_HINTS: Final = {
    "enforced": "enforce",
    "enforcing": "enforce",
    "enforcement": "enforce",
    "test": "testing",
    "report": "testing",
    "report-only": "testing",
    "monitor": "testing",
    "off": "none",
    "disabled": "none",
    "no": "none",
}


@dataclass(slots=True)
class _Draft:
    """What was seen so far; a policy is built of it at the end, never before."""

    version: bool = False
    mode: Mode | None = None
    max_age: int | None = None
    mx_patterns: list[str] = field(default_factory=list)
    bad_mx: list[tuple[int, str]] = field(default_factory=list)
    unknown: list[tuple[int, str]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    unsaid_count: int = 0

    def warn(self, sentence: str) -> None:
        if len(self.warnings) < MAX_WARNINGS:
            self.warnings.append(sentence)
        else:
            self.unsaid_count += 1


def parse_policy(body: bytes) -> StsPolicy:
    """Parse an MTA-STS policy body.

    Args:
        body: Exactly as served, without content coding; at most MAX_POLICY_BYTES.

    Returns:
        The policy; mx_patterns in file order, policy_strings as served (empty lines left out).

    Raises:
        PolicySyntaxError: Keep any unexpired cached policy; report sts-policy-invalid. Has the
            line number, counted from 1.

    Spec: RFC 8461 §3.2.
    """
    if len(body) > MAX_POLICY_BYTES:
        # RFC 8461 §3.3: nothing of a body above the limit is parsed (STS-FET-24, STS-POL-40).
        raise PolicySyntaxError(f"the body has {len(body)} octets; {MAX_POLICY_BYTES} are read")
    draft = _Draft()
    for number, line in enumerate(split_lines(_decode(body)), 1):
        _read_line(draft, line, number)
    return _finish(draft)


def format_policy(policy: StsPolicy) -> bytes:
    """Write a policy in the form that every parser accepts.

    Spec: RFC 8461 §3.2 (STS-POL-42): version, mode, mx, max_age; CRLF; nothing else.
    """
    # RFC 8461 §3.2: one key a line, one pattern for each `mx` (STS-POL-42, STS-POL-23).
    lines = [f"version: {VERSION}", f"mode: {policy.mode}"]
    lines += [f"mx: {pattern}" for pattern in policy.mx_patterns]
    lines.append(f"max_age: {policy.max_age}")
    return "".join(f"{line}\r\n" for line in lines).encode("ascii")


def split_lines(text: str) -> list[str]:
    """The lines of a body without their ends, which are LF or CRLF and nothing else.

    A CR elsewhere stays in its line, where the grammar has no place for it. `str.splitlines`
    would also split at VT, FF, NEL and U+2028, which may stand inside a value.
    """
    # RFC 8461 §3.2, EID 6253: LF and CRLF, also mixed; the last one may be missing (STS-POL-01,
    # STS-POL-02, STS-POL-03).
    *ended, last = text.split("\n")
    lines = [line.removesuffix("\r") for line in ended]
    if last:
        lines.append(last)
    return lines


def _decode(body: bytes) -> str:
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        # RFC 8461 §3.2: values are UTF-8 (STS-POL-33, STS-POL-36).
        line = body.count(b"\n", 0, error.start) + 1
        raise PolicySyntaxError(
            f"line {line}: octet 0x{body[error.start]:02x} is not UTF-8: save the file as ASCII",
            line=line,
            position=error.start - (body.rfind(b"\n", 0, error.start) + 1),
        ) from error
    if text.startswith("\ufeff"):
        # RFC 8461 §3.2: a byte order mark would be part of the first key (STS-POL-37).
        raise PolicySyntaxError(
            "line 1: the body starts with a byte order mark: save the file without one",
            line=1,
            position=0,
        )
    return text


def _read_line(draft: _Draft, line: str, number: int) -> None:
    if not line:
        # Departs: the grammar has no empty line, and files that end in two are common: they are
        # skipped, and do not end the policy (STS-POL-06, C-04).
        draft.warn(f"line {number} is empty: the grammar has no empty lines (RFC 8461 section 3.2)")
        return
    # RFC 8460 §4.5: reports quote the lines as served (STS-FET-33).
    draft.lines.append(line)
    key, colon, rest = line.partition(":")
    if not colon:
        # RFC 8461 §3.2: there are no comments (STS-POL-07, STS-POL-08).
        _fail(f"no colon in {quote(line)}{_hint_colon(line)}", line, number, len(line))
    _check_key(key, line, number)
    # RFC 8461 §3.2: blanks and tabs behind the colon and at the line's end do not count
    # (STS-POL-04).
    value = rest.strip(WSP)
    _check_value(key, value, line, number)
    _take(draft, key, value, number)


def _check_key(key: str, line: str, number: int) -> None:
    """Accept a key that is well-formed, known or not."""
    if is_extension_name(key):
        return
    if key[:1] and key[0] in WSP:
        # RFC 8461 §3.2: no folding, and no blank before a key (STS-POL-05, STS-POL-38).
        _fail("the line starts with white space: remove it", line, number, 0)
    if key[-1:] and key[-1] in WSP:
        # RFC 8461 §3.2: no blank before the colon (STS-POL-05).
        _fail(f"white space before the colon of {quote(key)}: remove it", line, number, len(key))
    # RFC 8461 §3.2: names of 1 to 32 letters, digits, `_`, `-`, `.` (STS-POL-34, STS-POL-08).
    _fail(
        f"{quote(key)} is not a key: 1 to 32 letters, digits, `_`, `-`, `.`{_hint_colon(line)}",
        line,
        number,
        0,
    )


def _check_value(key: str, value: str, line: str, number: int) -> None:
    """Accept a value that an extension may have: text without control characters."""
    if not value:
        # RFC 8461 §3.2: a value has at least one character (STS-POL-35).
        _fail(f"no value for `{key}`", line, number, len(key) + 1)
    if value.isprintable():
        return
    for character in value:
        if character < " " or character == "\x7f":
            # RFC 8461 §3.2: no control characters, and CR only in CRLF (STS-POL-02, STS-POL-35).
            name = "a CR without LF" if character == "\r" else f"control character {character!a}"
            _fail(
                f"{name} in the value of `{key}`: lines end with LF or CRLF",
                line,
                number,
                line.index(character, len(key)),
            )


def _take(draft: _Draft, key: str, value: str, number: int) -> None:
    """Note a field; of a repeated one other than `mx` the first counts."""
    # RFC 8461 §3.2: the order is free, the first of several counts, and keys are
    # case-sensitive (STS-POL-09, STS-POL-11, STS-POL-30).
    match key:
        case "version":
            if not draft.version:
                _check_version(value, number)
                draft.version = True
        case "mode":
            if draft.mode is None:
                draft.mode = _parse_mode(value, number)
        case "max_age":
            if draft.max_age is None:
                draft.max_age = _parse_max_age(draft, value, number)
        case "mx":
            _take_mx(draft, value, number)
        case _:
            # RFC 8461 §3.2: unknown keys are passed over, `id` too (STS-POL-31, STS-POL-32,
            # STS-POL-39).
            if len(draft.unknown) < MAX_LOOKALIKES:
                draft.unknown.append((number, key))


def _check_version(value: str, number: int) -> None:
    # RFC 8461 §3.2: exactly this (STS-POL-10).
    if value == VERSION:
        return
    hint = f"write `version: {VERSION}`"
    if value.startswith(VERSION) and ";" in value:
        hint = "each field stands on a line of its own, without `;`"
    _fail(f"version is {quote(value)}: {hint}", value, number)


def _parse_mode(value: str, number: int) -> Mode:
    # RFC 8461 §3.2: one of three words, in lower case (STS-POL-12).
    if value not in _MODES:
        meant = _MODE_HINTS.get(value.lower(), value.lower())
        hint = f": did you mean `mode: {meant}`?" if meant in _MODES else ""
        _fail(f"mode {quote(value)} is none of `enforce`, `testing`, `none`{hint}", value, number)
    return Mode(value)


def _parse_max_age(draft: _Draft, value: str, number: int) -> int:
    # RFC 8461 §3.2: ASCII digits, at most ten, zeros in front allowed (STS-POL-14, STS-POL-15,
    # STS-POL-16, STS-POL-19).
    if not (value.isascii() and value.isdigit()):
        _fail(
            f"max_age {quote(value)} is not a number of seconds in digits: write for example "
            "`max_age: 604800` for a week",
            value,
            number,
        )
    if len(value) > MAX_AGE_DIGITS:
        _fail(
            f"max_age has {len(value)} digits; {MAX_AGE_DIGITS} are allowed, and "
            f"{MAX_MAX_AGE_SECONDS} is the most that counts",
            value,
            number,
        )
    seconds = int(value)
    if seconds > MAX_MAX_AGE_SECONDS:
        # Spec-silent: EID 7282: the grammar allows more than the stated maximum: capped
        # (STS-POL-17, STS-POL-18, C-03).
        draft.warn(
            f"line {number}: max_age {seconds} is above the maximum and counts as "
            f"{MAX_MAX_AGE_SECONDS} (RFC 8461 section 3.2)"
        )
    return min(seconds, MAX_MAX_AGE_SECONDS)


def _take_mx(draft: _Draft, value: str, number: int) -> None:
    # RFC 8461 §3.2: a domain, or `*.` and a domain; U-labels never match (STS-POL-23,
    # STS-POL-24, STS-POL-25, STS-POL-27).
    if is_mx_pattern(value):
        # RFC 8461 §4.1: folded to compare; policy_strings keep the case (STS-POL-41).
        draft.mx_patterns.append(value.lower())
        return
    # Spec-silent: a bad `mx` also fits the grammar of an extension: it is ignored, and never
    # matches (STS-POL-29, C-02).
    if len(draft.bad_mx) < MAX_WARNINGS:
        draft.bad_mx.append((number, value))
    draft.warn(f"line {number} is ignored: {_say_bad_mx(value)} (RFC 8461 section 3.2)")


def _finish(draft: _Draft) -> StsPolicy:
    """Build the policy, if every required field was seen."""
    # RFC 8461 §3.2: version, mode and max_age are required (STS-POL-10, STS-POL-12, STS-POL-13).
    if not draft.version:
        _fail_missing(draft, "version", f"add `version: {VERSION}`")
    if draft.mode is None:
        _fail_missing(draft, "mode", "add `mode: testing` or `mode: enforce`")
    if draft.max_age is None:
        _fail_missing(draft, "max_age", "add for example `max_age: 604800`")
    if not draft.mx_patterns and draft.mode is not Mode.NONE:
        # RFC 8461 §3.2: at least one `mx`, save with mode none (STS-POL-20, STS-POL-21,
        # STS-POL-22); a malformed one is none (STS-POL-28).
        if draft.bad_mx:
            number, value = draft.bad_mx[0]
            _fail(f"no usable `mx`: {_say_bad_mx(value)}", value, number)
        _fail_missing(draft, "mx", f"mode {draft.mode} needs a line `mx: <host>` for each MX host")
    _warn_lookalikes(draft)
    warnings = draft.warnings
    if draft.unsaid_count:
        warnings = [*warnings, f"{draft.unsaid_count} more of this kind"]
    return StsPolicy(
        mode=draft.mode,
        max_age=draft.max_age,
        mx_patterns=tuple(draft.mx_patterns),
        policy_strings=tuple(draft.lines),
        warnings=tuple(warnings),
    )


def _fail(message: str, text: str, number: int, position: int | None = None) -> NoReturn:
    raise PolicySyntaxError(f"line {number}: {message}", text=text, line=number, position=position)


def _fail_missing(draft: _Draft, key: str, fix: str) -> NoReturn:
    """Say that a required key is missing, and which line was probably meant to be it."""
    for number, seen in draft.unknown:
        if _likely_key(seen) == key:
            _fail(f"no `{key}`: `{seen}:` is an unknown key; did you mean `{key}:`?", seen, number)
    raise PolicySyntaxError(f"no `{key}` line: {fix}")


def _warn_lookalikes(draft: _Draft) -> None:
    for number, seen in draft.unknown:
        key = _likely_key(seen)
        if key:
            draft.warn(f"line {number}: `{seen}:` is an unknown key; did you mean `{key}:`?")


def _likely_key(seen: str) -> str:
    """The known key that an unknown one was probably meant to be, or ""."""
    plain = seen.lower().replace("-", "_").replace(".", "_").strip("_")
    if plain in _KEYS:
        return plain
    if plain in _LOOKALIKES:
        return _LOOKALIKES[plain]
    return next((key for key in _KEYS if len(key) > len("mx") and _one_edit(plain, key)), "")


def _one_edit(one: str, other: str) -> bool:
    """Whether one insertion, deletion, change or swap of neighbours leads from one to the other."""
    start = _common(one, other)
    end = _common(reversed(one[start:]), reversed(other[start:]))
    left, right = one[start : len(one) - end], other[start : len(other) - end]
    swapped = len(left) == len("ab") and left == right[::-1]
    return max(len(left), len(right)) == 1 or swapped


def _common(one: Iterable[str], other: Iterable[str]) -> int:
    """How many characters both start with."""
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count


def _hint_colon(line: str) -> str:
    bare = line.lstrip()
    for mark, hint in (
        ("#", ": there are no comments, remove the line"),
        ("//", ": there are no comments, remove the line"),
        ("<", ": is this an HTML page in the place of the policy?"),
        ("{", ": a policy is lines of `key: value`, not JSON"),
    ):
        if bare.startswith(mark):
            return hint
    key, equals, _ = bare.partition("=")
    if equals and key.strip() in _KEYS:
        return f": write `{key.strip()}:`, with a colon"
    return ": lines are `key: value`"


def _say_bad_mx(value: str) -> str:
    return f"{quote(value)} is not an mx pattern{_hint_mx(value)}"


def _hint_mx(value: str) -> str:
    host, colon, port = value.rpartition(":")
    for found, hint in (
        (any(c in value for c in ", \t;"), "one host a line; repeat `mx:` for each"),
        (not value.isascii(), "write internationalised names as A-labels (`xn--...`)"),
        (value.endswith(".") and is_mx_pattern(value[:-1]), "remove the dot at the end"),
        (value.startswith("."), f"did you mean {quote('*' + value)}?"),
        (value.startswith("["), "an address is no host name"),
        ("_" in value, "`_` cannot stand in a host name"),
        (bool(colon) and port.isdigit() and is_mx_pattern(host), "remove the port"),
        ("*" in value, "`*` stands only for the whole first label, as in `*.example.com`"),
        ("@" in value, "the name of an MX host, not an address"),
    ):
        if found:
            return f": {hint}"
    return ": the name of an MX host, or `*.` and a domain"


def policy_lines(body: bytes, limit: int) -> tuple[str, ...]:
    """The lines of a body that may be no policy at all, for a report (RFC 8460 §4.5).

    At most `limit` lines, undecodable octets replaced, empty lines left out.
    """
    lines: Sequence[str] = split_lines(body[:MAX_POLICY_BYTES].decode("utf-8", "replace"))
    return tuple(line for line in lines if line)[:limit]
