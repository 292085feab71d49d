# SPDX-License-Identifier: Apache-2.0
"""Well-known receivers by their MX names: recognised only whole, with patterns that really fit."""

from __future__ import annotations

import pytest

from strictmail.core.check.receivers import points_at, recognise
from strictmail.core.sts.match import is_mx_pattern, match_any

GOOGLE = ["aspmx.l.google.com", *(f"alt{n}.aspmx.l.google.com" for n in range(1, 5))]


@pytest.mark.parametrize(
    ("hosts", "name", "patterns"),
    [
        pytest.param(
            ["example-com.mail.protection.outlook.com"],
            "Microsoft 365",
            ("*.mail.protection.outlook.com",),
            id="microsoft",
        ),
        pytest.param(
            ["Example-com.H-v1.mx.microsoft."],
            "Microsoft 365",
            ("*.h-v1.mx.microsoft",),
            id="microsoft-dnssec",
        ),
        pytest.param(
            ["example-com.h-v1.mx.microsoft", "example-com.mail.protection.outlook.com"],
            "Microsoft 365",
            ("*.h-v1.mx.microsoft", "*.mail.protection.outlook.com"),
            id="microsoft-moving",
        ),
        pytest.param(["smtp.google.com"], "Google Workspace", ("smtp.google.com",), id="google"),
        pytest.param(
            GOOGLE,
            "Google Workspace",
            ("aspmx.l.google.com", "*.aspmx.l.google.com"),
            id="google-before",
        ),
        pytest.param(
            ["ASPMX.L.GOOGLE.COM", "aspmx2.googlemail.com"],
            "Google Workspace",
            ("aspmx.l.google.com", "aspmx2.googlemail.com"),
            id="google-long-before",
        ),
        pytest.param(
            ["route1.mx.cloudflare.net", "route2.mx.cloudflare.net"],
            "Cloudflare Email Routing",
            ("*.mx.cloudflare.net",),
            id="cloudflare",
        ),
        pytest.param(
            ["mail.protonmail.ch", "mailsec.protonmail.ch"],
            "Proton Mail",
            ("mail.protonmail.ch", "mailsec.protonmail.ch"),
            id="proton",
        ),
        pytest.param(
            ["in1-smtp.messagingengine.com", "in2-smtp.messagingengine.com"],
            "Fastmail",
            ("in1-smtp.messagingengine.com", "in2-smtp.messagingengine.com"),
            id="fastmail",
        ),
        pytest.param(
            ["mx01.mail.icloud.com", "mx02.mail.icloud.com"],
            "iCloud Mail",
            ("mx01.mail.icloud.com", "mx02.mail.icloud.com"),
            id="icloud",
        ),
    ],
)
@pytest.mark.req("STS-APP-20")
def test_a_receiver_and_the_patterns_that_fit(
    hosts: list[str], name: str, patterns: tuple[str, ...]
) -> None:
    receiver = recognise(hosts)
    assert receiver is not None
    assert (receiver.name, receiver.patterns) == (name, patterns)
    assert all(match_any(host, receiver.patterns) for host in hosts)
    assert all(map(is_mx_pattern, (*receiver.patterns, *receiver.documented)))
    assert all(points_at(receiver, pattern) for pattern in receiver.patterns)


@pytest.mark.parametrize(
    "hosts",
    [
        pytest.param([], id="none"),
        pytest.param(["mx1.example.com"], id="unknown"),
        pytest.param(["smtp.google.com", "mx1.example.com"], id="with-a-backup-of-its-own"),
        pytest.param(["smtp.google.com", "x.mail.protection.outlook.com"], id="two-receivers"),
        pytest.param(["mail.protection.outlook.com"], id="the-zone-itself"),
        pytest.param(["a.b.mail.protection.outlook.com"], id="one-label-too-many"),
        pytest.param(["h-v1.mx.microsoft"], id="one-label-too-few"),
        pytest.param(["a.b.c.mx.microsoft"], id="three-labels"),
        pytest.param(["mx.google.com"], id="another-name"),
        pytest.param(["evil-aspmx.l.google.com"], id="prefix"),
        pytest.param(["x.notmx.microsoft"], id="suffix-without-a-dot"),
    ],
)
def test_no_receiver(hosts: list[str]) -> None:
    assert recognise(hosts) is None


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.mx.microsoft", True),
        ("mx.microsoft", True),
        ("*.outlook.com", True),
        ("mail.protection.outlook.com", True),
        ("example-com.mail.protection.outlook.com", True),
        ("*.com", False),
        ("*.microsoft", False),
        ("mx1.example.com", False),
        ("*.notoutlook.com", False),
    ],
)
def test_what_a_pattern_was_meant_for(pattern: str, *, expected: bool) -> None:
    receiver = recognise(["example-com.h-v1.mx.microsoft"])
    assert receiver is not None
    assert points_at(receiver, pattern) is expected
