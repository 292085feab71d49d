# SPDX-License-Identifier: Apache-2.0
"""The words of Postfix's TLS policy table, in its two dialects.

`encode_reply` speaks to every Postfix that has socketmap tables; `encode_reply_tlsrpt` adds the
attributes that Postfix 3.10 and later hand to TLSRPT (3.9 and older take them for an error and
defer the mail, which is why the dialect is a setting of the listener).

How Postfix reads a reply, and what follows for us:

* A level, then attributes, separated by runs of blank, tab, CR, LF and comma. A separator within
  balanced `{ }` does not end an attribute; braces do not quote and cannot be escaped.
* `{ name = value }`: one outer pair is taken off, blanks around value and name are dropped, the
  first `=` ends the name. So every `=` and `,` in a value is safe, a brace never is.
* Names are not case-sensitive. An unknown name, a second `servername`, `policy_type` or
  `policy_domain`, or an empty `match` defers the mail of the whole next-hop.
* In `match`, the words `hostname`, `nexthop` and `dot-nexthop` stand for names that come from
  DNS or from the envelope, and a leading dot for any depth of sub-domains.

So nothing but host names enters `match`, and policy text enters only after each brace and each
character outside printable ASCII became `?`. Reports that quote the policy to its owner are
built from the stored text, not from what a Postfix was told.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from strictmail.core.decision import REASONS, Decision, Level, PolicyInfo
from strictmail.core.errors import EncodingError
from strictmail.core.mta import socketmap
from strictmail.core.sts.values import Mode

if TYPE_CHECKING:
    from collections.abc import Sequence

_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)
_PATTERN: Final = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*", re.ASCII)
_MAX_NAME_CHARACTERS: Final = 253

_MATCH_WORDS: Final = frozenset({"hostname", "nexthop", "dot-nexthop"})
"""What Postfix replaces within `match`: no MX host may have such a name."""

_ANNOTATED_LEVELS: Final = (Level.MAY, Level.ENCRYPT, Level.DANE)


def encode_reply(decision: Decision) -> bytes:
    """Say a decision to a Postfix of any release.

    Args:
        decision: Already raised to the listener's default level.

    Returns:
        The complete reply, a netstring.

    Raises:
        EncodingError: It cannot be said without becoming weaker: reply TEMP.
    """
    if decision.level is Level.NONE:
        return socketmap.notfound()
    if decision.level is Level.DEFER:
        return encode_deferral(decision)
    return socketmap.ok(_level_and_match(decision))


def encode_reply_tlsrpt(decision: Decision) -> bytes:
    """Say a decision to Postfix 3.10 or later, with what its TLSRPT reports need.

    The attributes are added to an enforced policy, and to a policy in testing where the decision
    asks for it (`annotate`). An operator's override is not reported as the domain's policy.

    Args:
        decision: Already raised to the listener's default level.

    Returns:
        The complete reply, a netstring of at most MAX_REPLY_BYTES payload: where the attributes
        would make it longer, `policy_string` and `mx_host_pattern` are left out together, and
        without a policy domain that Postfix takes for a host name all of them are.

    Raises:
        EncodingError: It cannot be said without becoming weaker: reply TEMP.
    """
    policy = _reported_policy(decision)
    if policy is None:
        return encode_reply(decision)
    words = [_level_and_match(decision)]
    if is_host_name(decision.nexthop):
        words += ["policy_type=sts", f"policy_domain={decision.nexthop}"]
        room = socketmap.MAX_REPLY_BYTES - len("OK ") - len(" ".join(words))
        words += _policy_attributes(policy, room)
    return socketmap.ok(" ".join(words))


def encode_deferral(decision: Decision) -> bytes:
    """Say that the mail waits, with the decision's reason: a word and its sentence."""
    reason = REASONS.get(decision.reason)
    sentence = f": {reason.sentence}" if reason else ""
    # RFC 8461 §5: a policy that cannot be met makes the mail wait, and the status says why
    # (STS-APP-55, STS-APP-59); DNS text does not enter it (SEC-20).
    return socketmap.temp(f"{decision.reason}{sentence}")


def match_value(decision: Decision) -> str:
    """The MX names that may be used, as `a:b`, in order of preference.

    Raises:
        EncodingError: There is none that can be written: reply TEMP.
    """
    # RFC 8461 §4.1: exact names only; nothing that an MTA would widen (STS-APP-22, SEC-21).
    # A name that cannot be written is left out: its host is not used, the others are.
    names = [name for name in decision.allowed_mx if is_host_name(name)]
    if not names:
        # Postfix would fall back to the next-hop's own name; sendmail would skip the list.
        raise EncodingError("no MX host may be used: `secure` without match= is no answer")
    return ":".join(names)


def is_host_name(name: str) -> bool:
    """Whether MTAs take a name, lower case and without trailing dot, for a host name."""
    return (
        len(name) <= _MAX_NAME_CHARACTERS
        and _HOST_NAME.fullmatch(name) is not None
        and not name.replace(".", "").isdigit()
        and name not in _MATCH_WORDS
    )


def _level_and_match(decision: Decision) -> str:
    if decision.level is not Level.SECURE:
        return decision.level.value
    # RFC 8461 §7.1: SNI carries the MX host name (STS-APP-37): `hostname` stands for it.
    return f"secure match={match_value(decision)} servername=hostname"


def _reported_policy(decision: Decision) -> PolicyInfo | None:
    """The policy that the reply is the execution of, or None."""
    if decision.policy is None or decision.override is not None:
        return None
    if decision.level is Level.SECURE:
        return decision.policy if decision.policy.mode is Mode.ENFORCE else None
    if decision.annotate and decision.level in _ANNOTATED_LEVELS:
        return decision.policy
    return None


def _policy_attributes(policy: PolicyInfo, room: int) -> Sequence[str]:
    """The repeatable attributes, all of them or none, in at most `room` characters."""
    # Part of the patterns would make Postfix 3.10.5 skip MX hosts that the policy allows.
    if not all(_is_pattern(pattern) for pattern in policy.mx_patterns):
        return ()
    attributes = [f"{{ policy_string = {_quoted(line)} }}" for line in policy.policy_strings]
    attributes += [f"mx_host_pattern={pattern}" for pattern in policy.mx_patterns]
    return attributes if sum(map(len, attributes)) + len(attributes) <= room else ()


def _is_pattern(pattern: str) -> bool:
    return len(pattern) <= _MAX_NAME_CHARACTERS and _PATTERN.fullmatch(pattern) is not None


def _quoted(line: str) -> str:
    """A policy line within `{ policy_string = … }`: a brace would end it early."""
    # RFC 8461 §3.2: a tab is white space like a blank; as `?` it would spoil the value.
    spaced = line.replace("\t", " ")
    return socketmap.printable(spaced).replace("{", "?").replace("}", "?").strip()
