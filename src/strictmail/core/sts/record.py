# SPDX-License-Identifier: Apache-2.0
"""The `_mta-sts` TXT record (RFC 8461 §3.1): which one counts, and what it says.

Order of steps: the strings of each record are joined; records that do not start with the version
are dropped; exactly one must be left; that one must keep to the grammar. Nothing here lives on:
what a broken record means for a cached policy, `lifecycle` knows (it means nothing).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from strictmail.core.errors import RecordSyntaxError
from strictmail.core.sts.values import StsRecord
from strictmail.core.tagrecord import TagField, join_strings, parse_fields, quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

VERSION: Final = "v=STSv1"

_PREFIX: Final = b"v=STSv1;"
_SPACED_PREFIX: Final = re.compile(rb"v=STSv1[ \t]+;")
_POLICY_ID: Final = re.compile(r"[A-Za-z0-9]{1,32}")

_SPACED_WARNING: Final = (
    "white space between `v=STSv1` and the first `;`: other senders ignore such a record; "
    "write `v=STSv1; id=...` (RFC 8461 section 3.1)"
)

MAX_NEAR_MISSES: Final = 3
"""How many records that almost count a message mentions."""


def record_name(policy_domain: str) -> str:
    """The name that the record stands at; the domain in A-labels.

    Spec: RFC 8461 §3.1; no parent is asked instead (§3.4).
    """
    # RFC 8461 §3.1: the label stands directly under the policy domain (STS-REC-01, STS-REC-28).
    return f"_mta-sts.{policy_domain}"


def select_record(rrset: Sequence[Sequence[bytes]]) -> StsRecord:
    """Find the one usable record of a TXT RRset.

    Args:
        rrset: Each record as its character-strings; an empty RRset is fine. Their order says
            nothing.

    Returns:
        The record.

    Raises:
        RecordSyntaxError: Act as if no policy can be discovered; a cached policy stays. Its
            `reason_code` is `absent`, `several` or `syntax`.

    Spec: RFC 8461 §3.1.
    """
    texts = [join_strings(strings) for strings in rrset]
    # RFC 8461 §3.1: records that do not start with the version are dropped (STS-REC-04,
    # STS-REC-10, STS-REC-34).
    candidates = [text for text in texts if text.startswith(_PREFIX)]
    warnings: tuple[str, ...] = ()
    if not candidates:
        # Spec-silent: EID 6285: the grammar allows blanks before the first `;`, the rule for
        # dropping does not. Such a record counts if no other is there (STS-REC-19, C-17).
        candidates = [text for text in texts if _SPACED_PREFIX.match(text)]
        warnings = (_SPACED_WARNING,)
    if not candidates:
        raise RecordSyntaxError(_say_absent(texts), reason_code="absent")
    if len(candidates) > 1:
        # RFC 8461 §3.1: two are as good as none, even if only one is well-formed (STS-REC-05).
        raise RecordSyntaxError(
            f"{len(candidates)} records start with `{VERSION}`; exactly one may: remove the others",
            reason_code="several",
            text=candidates[0].decode("latin-1"),
        )
    return StsRecord(parse_policy_id(candidates[0]), warnings)


def parse_policy_id(record: bytes) -> str:
    """The id of one record, whose whole grammar is checked.

    Raises:
        RecordSyntaxError: With `reason_code` `syntax`.
    """
    # RFC 8461 §3.1: a record that breaks the grammar is no record: no id is salvaged (STS-REC-06).
    text = record.decode("latin-1")
    # RFC 8461 §3.1: the version comes first and is compared exactly (STS-REC-08, STS-REC-09).
    fields = parse_fields(text, VERSION)
    # RFC 8461 §3.2: of a repeated field the first counts (STS-REC-23), unknown ones are passed
    # over (STS-REC-16), and the order is free (STS-REC-15).
    found = next((field for field in fields if field.name == "id"), None)
    if found is None:
        # RFC 8461 §3.1: the id is required, and its name is case-sensitive (STS-REC-11, STS-REC-14).
        raise RecordSyntaxError(_say_no_id(fields), text=text, position=len(text))
    if _POLICY_ID.fullmatch(found.value) is None:
        # RFC 8461 §3.1: 1 to 32 letters and digits (STS-REC-12, STS-REC-13).
        raise RecordSyntaxError(
            f"the id {quote(found.value)} is not 1 to 32 ASCII letters and digits"
            + _say_bad_id(found.value),
            text=text,
            position=found.position + len("id="),
        )
    return found.value


def _say_no_id(fields: Iterable[TagField]) -> str:
    for field in fields:
        if field.name.lower() == "id":
            return f"no `id` field: names are case-sensitive, write `id=` for `{field.name}=`"
    return "no `id` field: add `id=` and 1 to 32 letters and digits"


def _say_bad_id(value: str) -> str:
    wanted = "".join(c for c in value if c.isascii() and c.isalnum())[:32]
    return f": for example `id={wanted}`" if wanted else ""


def _say_absent(texts: Sequence[bytes]) -> str:
    if not texts:
        return "no TXT record"
    hints = [hint for hint in map(_say_near_miss, texts) if hint][:MAX_NEAR_MISSES]
    return f"no TXT record starts with `{VERSION};`" + "".join(f"; {hint}" for hint in hints)


def _say_near_miss(text: bytes) -> str:
    """What an owner probably did, if a record looks like an attempt."""
    head = text[:40].decode("latin-1")
    bare = head.lstrip(" \t\"'\xef\xbb\xbf")
    squeezed = bare.lower().replace(" ", "")
    shown = quote(head)
    if squeezed.startswith("v=sts1"):
        # Not from an RFC: the record of the 2016 drafts.
        return f"{shown} is of the 2016 drafts, which nobody reads any more"
    if not squeezed.startswith("v=stsv1"):
        if "v=stsv1" in squeezed:
            return f"in {shown} the version does not come first"
        return ""
    if bare != head:
        return f"{shown} starts with white space, a quote mark or a byte order mark: remove it"
    if not bare.startswith(VERSION):
        return f"{shown}: the version is written `{VERSION};`, in exactly these letters"
    return f"{shown}: behind `{VERSION}` comes `;`"
