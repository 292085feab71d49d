# SPDX-License-Identifier: Apache-2.0
"""Destinations as the outbox has them."""

from __future__ import annotations

import pytest

from strictmail.core.tlsrpt.destination import parse_destination
from strictmail.core.tlsrpt.record import select_tlsrpt


@pytest.mark.req("RPT-REC-15", "RPT-REC-16")
def test_what_a_record_gives_can_be_read_back() -> None:
    uris = b"MAILTO:a%2Cb@X.example,https://R.example:8443/a%2Cb?k=%21,HTTPS://r.example"
    record = select_tlsrpt([(b"v=TLSRPTv1; rua=", uris)])
    mail, odd, plain = [parse_destination(uri.destination) for uri in record.rua]
    assert (mail.address, mail.host, mail.is_mail) == ("a,b@X.example", "x.example", True)
    assert (odd.host, odd.port, odd.target) == ("r.example", 8443, "/a%2Cb?k=%21")
    assert (plain.host, plain.port, plain.target) == ("r.example", 443, "/")


@pytest.mark.req("SEC-25", "RPT-REC-32")
@pytest.mark.parametrize(
    "text",
    [
        "",
        "mailto:",
        "mailto:x",
        "mailto:x@y\r\nRCPT TO:<z@z>",
        "mailto:\u00e9@y.example",
        "http://x.example/",
        "https:///x",
        "https://user@x.example/",
        "https://x.example/a b",
        "https://x.example/\u00e9",
        "https://x.example:99999/",
        "-oX",
        "file:///etc/passwd",
    ],
)
def test_what_is_no_destination(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_destination(text)
