# SPDX-License-Identifier: Apache-2.0
"""Whatever a policy holds, Postfix reads the level and exactly the attributes that were meant.

Postfix's reading is re-implemented here from its manual: `read_policy`. It shares nothing with
the encoder.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from itertools import accumulate
from typing import TYPE_CHECKING

from harness import instrumented, run

with instrumented():
    from strictmail.core.decision import Decision, Level, PolicyInfo
    from strictmail.core.errors import EncodingError
    from strictmail.core.mta import exim, postfix, sendmail
    from strictmail.core.mta.netstring import Decoder
    from strictmail.core.mta.socketmap import MAX_REPLY_BYTES
    from strictmail.core.sts.values import Mode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NOW = datetime(2026, 3, 1, tzinfo=UTC)
LEVELS = (Level.SECURE, Level.MAY, Level.ENCRYPT, Level.DANE, Level.DANE_ONLY, Level.NONE)
REPEATED = ("match", "policy_string", "mx_host_pattern")
SINGLE = ("servername", "policy_type", "policy_domain")
_HOST_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")


class Refused(Exception):  # noqa: N818 - it is Postfix's refusal
    """Postfix would defer all mail of the next-hop."""


def seeds() -> Iterator[bytes]:
    """A level, a next-hop, MX hosts, patterns, and policy lines, one a line."""
    good = "sts.test\nmx1.sts.test,mx2.sts.test\nmx1.sts.test,*.sts.test\n"
    lines = "version: STSv1\nmode: enforce\nmx: mx1.sts.test\nmx: *.sts.test\nmax_age: 86400"
    for level in range(len(LEVELS)):
        yield f"{level}\n{good}{lines}".encode()
    yield f"0\n{good}x: }} ciphers=null {{\ny: }}}}{{{{ = , \t\x00\x7f ü\n\n =\nz: {{a".encode()
    yield b"0\nsts.test\nhostname,nexthop,.a.test,a:b,a b\n*,*.,x y,}\na"
    yield b"0\n-sts.test\nmx.test\nmx.test\nmode: enforce"


def check(data: bytes) -> None:
    """Take a decision out of the input and say it in every dialect."""
    text = data.decode("utf-8", "replace")
    level, nexthop, hosts, patterns, *lines = [*text.split("\n", 4), "", "", "", ""][:5]
    decision = make_decision(
        LEVELS[len(level) % len(LEVELS) if not level.isdecimal() else int(level[:3]) % len(LEVELS)],
        nexthop,
        [host for host in hosts.split(",") if host],
        [pattern for pattern in patterns.split(",") if pattern],
        "\n".join(lines).split("\n"),
    )
    check_decision(decision)


def make_decision(
    level: Level,
    nexthop: str,
    hosts: Sequence[str],
    patterns: Sequence[str],
    lines: Sequence[str],
) -> Decision:
    """A decision for a policy with these parts; annotated where that is possible."""
    mode = Mode.ENFORCE if level is Level.SECURE else Mode.TESTING
    policy = PolicyInfo("1", mode, 86400, tuple(patterns), tuple(lines), NOW, NOW)
    allowed = tuple(hosts) if level is Level.SECURE else ()
    return Decision(nexthop, level, "enforce", allowed, policy=policy, annotate=True)


def check_decision(decision: Decision) -> None:
    """Every dialect says it completely, or refuses to."""
    for encode in (postfix.encode_reply, postfix.encode_reply_tlsrpt, exim.encode_reply):
        try:
            reply = encode(decision)
        except EncodingError:
            assert decision.level is Level.SECURE
            continue
        _check_reply(decision, _payload(reply), annotated=encode is postfix.encode_reply_tlsrpt)
    try:
        words = _payload(sendmail.encode_reply(decision)).split(" ")
    except EncodingError:
        return
    if decision.level is Level.SECURE:
        assert [*words[:2], *words[3:]] == ["OK", "secure", "servername=hostname"]
        named = words[2].removeprefix("match=").split(":")
        assert named == _writable(decision)[: len(named)]
        assert len(words[2]) <= len("match=") + sendmail.MAX_MATCH_BYTES


def _payload(reply: bytes) -> str:
    (payload,) = Decoder(MAX_REPLY_BYTES).feed(reply)
    return payload.decode("ascii")


def _check_reply(decision: Decision, reply: str, *, annotated: bool) -> None:
    if decision.level is Level.NONE:
        assert reply == "NOTFOUND "
        return
    status, _, value = reply.partition(" ")
    assert status == "OK"
    level, attributes = read_policy(value)
    assert level == decision.level.value
    names = [name for name, _ in attributes]
    assert all(names.count(name) <= 1 for name in SINGLE)
    if decision.level is Level.SECURE:
        matched = [v for name, v in attributes if name == "match"]
        assert matched == [":".join(_writable(decision))]
        assert ("servername", "hostname") in attributes
    else:
        assert "match" not in names
    rest = [a for a in attributes if a[0] not in ("match", "servername")]
    if rest:
        assert annotated
        _check_attributes(decision, rest)


def _writable(decision: Decision) -> list[str]:
    """The hosts that can be named; the others are not used."""
    words = ("hostname", "nexthop", "dot-nexthop")
    return [host for host in decision.allowed_mx if is_name(host) and host not in words]


def _check_attributes(decision: Decision, attributes: Sequence[tuple[str, str]]) -> None:
    assert decision.policy is not None
    assert attributes[:2] == [("policy_type", "sts"), ("policy_domain", decision.nexthop)]
    assert is_name(decision.nexthop)
    lines = [("policy_string", shown(line)) for line in decision.policy.policy_strings]
    patterns = [("mx_host_pattern", pattern) for pattern in decision.policy.mx_patterns]
    assert attributes[2:] in ([], lines + patterns)


def is_name(name: str) -> bool:
    """Whether Postfix takes it for a host name, and for one name."""
    return (
        _HOST_NAME.fullmatch(name) is not None
        and len(name) <= 255  # noqa: PLR2004 - its limit
        and all(len(label) < 64 for label in name.split("."))  # noqa: PLR2004 - its limit
        and any(not c.isdigit() for c in name if c != ".")
    )


def shown(line: str) -> str:
    """A policy line as it should arrive: a blank for a tab, `?` for what else may not."""
    return re.sub(r"[^ -z|~]", "?", line.replace("\t", " ")).strip()


def read_policy(value: str) -> tuple[str, list[tuple[str, str]]]:
    """Read a policy as Postfix 3.10 does: its level, then its attributes.

    Raises:
        Refused: As Postfix would.
    """
    words = _split(value)
    if not words:
        raise Refused("empty policy")
    return words[0], [_read_attribute(word) for word in words[1:]]


def _split(value: str) -> list[str]:
    """Words between blanks and commas, none of which counts within braces."""
    words: list[str] = []
    word, depth = "", 0
    for c in value:
        if depth == 0 and c in ", \t\r\n":
            if word:
                words.append(word)
            word = ""
            continue
        word += c
        depth += 1 if c == "{" else -1 if c == "}" and depth else 0
    return [*words, word] if word else words


def _read_attribute(word: str) -> tuple[str, str]:
    if word.startswith("{"):
        depths = list(accumulate((c == "{") - (c == "}") for c in word))
        if 0 not in depths or depths.index(0) + 1 != len(word):
            raise Refused(f"braces in {word!r}")
        word = word[1:-1].strip()
    name, equals, value = word.partition("=")
    if not equals or not name.strip() or len(name.split()) != 1:
        raise Refused(f"no attribute: {word!r}")
    if name.strip().lower() not in (*REPEATED, *SINGLE):
        raise Refused(f"unknown attribute {name!r}")
    return name.strip().lower(), value.strip()


if __name__ == "__main__":
    run(check, seeds())
