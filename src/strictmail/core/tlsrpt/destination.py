# SPDX-License-Identifier: Apache-2.0
"""A destination of reports as the outbox keeps it, and what it is counted under.

`mailto:` and a mailbox (percent-encoding undone), or an `https` URI as published: the texts of
`record.RuaUri.destination`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

HTTPS_PORT: Final = 443

_MAILTO: Final = "mailto:"


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a report goes.

    Attributes:
        text: As in the outbox.
        address: With mail, the mailbox; else "".
        host: The mailbox's domain, or the host of the URI; lower case. Limits count by it.
        port: With HTTPS, the port.
        target: With HTTPS, path and query as published.
    """

    text: str
    address: str
    host: str
    port: int = 0
    target: str = ""

    @property
    def is_mail(self) -> bool:
        """Whether it is a mailbox."""
        return bool(self.address)


def parse_destination(text: str) -> Destination:
    """Read a destination.

    Args:
        text: What `record.select_tlsrpt` has accepted.

    Raises:
        ValueError: It is neither a mailbox nor an HTTPS URI with a host.
    """
    if text[: len(_MAILTO)].lower() == _MAILTO:
        address = text[len(_MAILTO) :]
        local, _, domain = address.rpartition("@")
        if not (local and domain and address.isascii() and address.isprintable()):
            raise ValueError(f"{text[:60]!a} is no mailbox: write mailto:NAME@DOMAIN")
        return Destination(_MAILTO + address, address, domain.lower())
    parts = urlsplit(text)
    if parts.scheme != "https" or not parts.hostname or "@" in parts.netloc:
        raise ValueError(f"{text[:60]!a} is neither mailto:NAME@DOMAIN nor https://HOST/PATH")
    # RFC 8460 §3: used as published: nothing of path and query is decoded (RPT-REC-16).
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not target.isascii() or not target.isprintable() or " " in target:
        # BCP: data for a request line, or refused (SEC-25).
        raise ValueError(f"{text[:60]!a} has a path that cannot stand in a request")
    port = HTTPS_PORT if parts.port is None else parts.port
    return Destination(text, "", parts.hostname.lower(), port, target)
