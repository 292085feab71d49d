# SPDX-License-Identifier: Apache-2.0
"""What a message says of TLS itself: REQUIRETLS and the `TLS-Required` header (RFC 8689).

strictmail carries no mail; it says how a message is to be taken to those who do, and marks its
own report mail.
"""

from __future__ import annotations

import enum
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_HEADER: Final = re.compile(
    r"TLS-Required(?P<blanks>[ \t]*):(?P<value>.*)", re.IGNORECASE | re.DOTALL | re.ASCII
)
_MAIL_PARAMETER: Final = "REQUIRETLS"


class TlsWish(enum.StrEnum):
    """How a message is to travel."""

    REQUIRED = "required"
    """With REQUIRETLS: verified TLS at every hop, or it comes back."""
    OPTIONAL = "optional"
    """`TLS-Required: No`: the recipient's policies may fail without holding it up."""
    NONE = "none"
    """It says nothing: policies apply as always."""


def read_wish(headers: Sequence[str], mail_parameters: Sequence[str] = ()) -> TlsWish:
    """What a message wants.

    Args:
        headers: The lines of its top-level header, folded ones as one text.
        mail_parameters: Those of MAIL FROM.

    Spec: RFC 8689 §3, §4.1.
    """
    asked = [p.upper() for p in mail_parameters if p.isascii()]
    asked = [p for p in asked if p.partition("=")[0] == _MAIL_PARAMETER]
    # RFC 8689 §2, §4.1: the parameter wins over the header (RTLS-07).
    if _MAIL_PARAMETER in asked:
        return TlsWish.REQUIRED
    found = [match for line in headers if (match := _HEADER.fullmatch(line))]
    # RFC 8689 §3: at most one; with several, the safe side (RTLS-11). Nor does anything relax what
    # somebody wanted with a value that the parameter cannot have (RTLS-02).
    if asked or len(found) != 1:
        return TlsWish.NONE
    # RFC 8689 §3: `No` in any case, and no other value means anything (RTLS-08, RTLS-09, RTLS-10);
    # nothing stands between the name and its colon.
    is_no = found[0]["value"].strip(" \t\r\n").lower() == "no"
    return TlsWish.OPTIONAL if is_no and not found[0]["blanks"] else TlsWish.NONE
