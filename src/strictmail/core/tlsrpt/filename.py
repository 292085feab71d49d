# SPDX-License-Identifier: Apache-2.0
"""The file name of a report: `sender!policy-domain!begin!end[!unique-id].json[.gz]`.

Spec: RFC 8460 §5.1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from strictmail.core.tlsrpt.session import is_mail_domain

_UNIQUE_ID: Final = re.compile(r"[A-Za-z0-9]+")
_SECONDS: Final = re.compile(r"[0-9]{1,15}")
_FIELDS: Final = (4, 5)
"""sender, domain, begin, end, and perhaps an id."""


@dataclass(frozen=True, slots=True)
class ReportFilename:
    """What a file name says.

    Attributes:
        sender: Domain of the contact-info, A-labels.
        domain: Policy domain, A-labels.
        begin: Unix seconds of the start of the range.
        end: Unix seconds of its end.
        unique_id: Letters and digits, or "".
        gzip: The content is compressed.
    """

    sender: str
    domain: str
    begin: int
    end: int
    unique_id: str = ""
    gzip: bool = True


def format_filename(name: ReportFilename) -> str:
    """Write a file name.

    Raises:
        ValueError: The unique id is not letters and digits, a domain is none, or a time is before
            1970.
    """
    # RFC 8460 §5.1: letters and digits only (RPT-DLV-13), A-labels (RPT-DLV-11).
    if name.unique_id and not _UNIQUE_ID.fullmatch(name.unique_id):
        raise ValueError("the unique id of a file name is letters and digits")
    if not (is_mail_domain(name.sender) and is_mail_domain(name.domain)):
        raise ValueError("the domains of a file name are A-labels")
    if name.begin < 0 or name.end < 0:
        raise ValueError("the times of a file name are Unix seconds, without a sign")
    # RFC 8460 §5.1: decimal Unix seconds (RPT-DLV-12); the parts in this order (RPT-DLV-10).
    parts = [name.sender, name.domain, str(name.begin), str(name.end)]
    if name.unique_id:
        parts.append(name.unique_id)
    # RFC 8460 §5.1: `json`, or `json.gz` for gzip (RPT-DLV-14).
    return "!".join(parts) + (".json.gz" if name.gzip else ".json")


def parse_filename(text: str) -> ReportFilename | None:
    """Read a file name; None if it does not conform (the report may be good all the same)."""
    for extension, is_gzip in ((".json.gz", True), (".json", False)):
        if text.endswith(extension):
            return _parse_stem(text.removesuffix(extension), is_gzip=is_gzip)
    return None


def _parse_stem(stem: str, *, is_gzip: bool) -> ReportFilename | None:
    parts = stem.split("!")
    if len(parts) not in _FIELDS:
        return None
    sender, domain, begin, end, *rest = parts
    if not (is_mail_domain(sender) and is_mail_domain(domain)):
        return None
    if not (_SECONDS.fullmatch(begin) and _SECONDS.fullmatch(end)):
        return None
    if rest and not _UNIQUE_ID.fullmatch(rest[0]):
        return None
    return ReportFilename(sender, domain, int(begin), int(end), "".join(rest), is_gzip)
