# SPDX-License-Identifier: Apache-2.0
"""Domain names: one form for each, and the operations on labels.

Inside strictmail a domain is lower-case A-labels without trailing dot (`Domain`). This module
knows how to get there and how to take a name apart; it knows nothing of what a name is for.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final, NewType

from strictmail.core.errors import DomainSyntaxError

Domain = NewType("Domain", str)
"""Lower-case A-labels, no trailing dot: proof that a string went through `parse_domain`."""

MAX_NAME_CHARACTERS: Final = 253
"""RFC 1035 §2.3.4: 255 octets on the wire are 253 characters without the trailing dot."""

MAX_LABEL_CHARACTERS: Final = 63
"""RFC 1035 §2.3.4."""

_ASCII_LOWER: Final = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}

_DNS_LABEL: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")

_IN_FORM: Final = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
"""A name that is in its one form already, as most are: found much faster than label by label."""


def fold(name: str) -> str:
    """Bring a name into the form in which names are compared, without looking at its syntax.

    Only ASCII letters are folded: `str.lower` would turn the Kelvin sign into a `k`.
    """
    # RFC 4343 §3: names compare without regard to ASCII case; the root dot says nothing
    # (STS-APP-07, STS-APP-18).
    lowered = name.lower() if name.isascii() else name.translate(_ASCII_LOWER)
    return lowered.removesuffix(".")


def parse_domain(text: str) -> Domain:
    """Bring a domain name into its one form.

    Args:
        text: Any case, at most one trailing dot, U-labels or A-labels. Letters, digits, hyphens
            and underscores in labels of 1 to 63 characters, 253 in all.

    Raises:
        DomainSyntaxError: There is nothing to look up; the message names the fault.

    Spec: RFC 1035 §2.3.4; RFC 5891 §4 for U-labels (STS-REC-02, STS-APP-07).
    """
    if len(text) <= MAX_NAME_CHARACTERS and _IN_FORM.fullmatch(text):
        return Domain(text)
    if len(text) > MAX_NAME_CHARACTERS + 1:
        raise DomainSyntaxError(
            f"a domain name has at most {MAX_NAME_CHARACTERS} characters, not {len(text)}",
            text=text,
        )
    # RFC 5891 §4: DNS questions carry A-labels (STS-REC-02).
    name = fold(text if text.isascii() else _to_ascii(text))
    if not name:
        raise DomainSyntaxError("a domain name has at least one label", text=text)
    if len(name) > MAX_NAME_CHARACTERS:
        raise DomainSyntaxError(
            f"as A-labels, the domain name has {len(name)} characters; "
            f"{MAX_NAME_CHARACTERS} are allowed",
            text=text,
        )
    position = 0
    for label in name.split("."):
        _check_label(label, text, position)
        position += len(label) + 1
    return Domain(name)


def _to_ascii(text: str) -> str:
    import idna  # heavy tables, and hardly any key holds a U-label

    try:
        mapped = idna.uts46_remap(text, std3_rules=False)
        return ".".join(
            label if label.isascii() else idna.alabel(label).decode("ascii")
            for label in mapped.split(".")
        )
    except UnicodeError as error:
        # It may quote all of the name, each character escaped.
        reason = str(error).encode("ascii", "backslashreplace").decode("ascii")[:160]
        raise DomainSyntaxError(
            f"not an internationalised domain name: {reason}", text=text
        ) from error


def _check_label(label: str, text: str, position: int) -> None:
    if not label:
        raise DomainSyntaxError(
            "a domain name has no empty label: two dots in a row, or one at the start",
            text=text,
            position=position,
        )
    if len(label) > MAX_LABEL_CHARACTERS:
        raise DomainSyntaxError(
            f"a label has at most {MAX_LABEL_CHARACTERS} characters, not {len(label)}",
            text=text,
            position=position,
        )
    if not _DNS_LABEL.issuperset(label):
        # BCP: what could be more than a name to a shell, a log, a file system or SQL is none
        # (SEC-26).
        bad = next(c for c in label if c not in _DNS_LABEL)
        raise DomainSyntaxError(
            f"{bad!a} cannot stand in a domain name: letters, digits, hyphens and underscores do",
            text=text,
            position=position + label.index(bad),
        )


def is_ldh_domain(text: str) -> bool:
    """Whether a text is a `Domain` of RFC 5321 §4.1.2, in any case.

    Letters, digits and hyphens, no hyphen at either end of a label, no trailing dot: stricter
    than `parse_domain`, which takes what DNS may answer with.
    """
    if not text.isascii() or not 1 <= len(text) <= MAX_NAME_CHARACTERS:
        return False
    return all(_is_ldh_label(label) for label in text.split("."))


def _is_ldh_label(label: str) -> bool:
    return (
        1 <= len(label) <= MAX_LABEL_CHARACTERS
        and label[0] != "-"
        and label[-1] != "-"
        and label.replace("-", "0").isalnum()
    )


def labels(name: str) -> tuple[str, ...]:
    """The labels of a name, left to right; none for the root."""
    bare = name.removesuffix(".")
    return tuple(bare.split(".")) if bare else ()


def parent(name: str) -> str:
    """The name without its left-most label; "" above a single label."""
    return name.partition(".")[2]


def is_address(text: str) -> bool:
    """Whether a text is an IPv4 or IPv6 address, without brackets."""
    if not text.isascii() or not (":" in text or text[-1:].isdigit()):
        return False
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
