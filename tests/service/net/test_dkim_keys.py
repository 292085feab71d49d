# SPDX-License-Identifier: Apache-2.0
"""DKIM keys in files, and what DNS says of them."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from strictmail.core.dkim import SigningKey
from strictmail.core.dnsvalues import RecordType, Status
from strictmail.core.errors import ConfigError
from strictmail.net.dkim import KeyState, look_up_key, read_key, wanted_record
from strictmail.net.fakes import FakeResolver
from strictmail.net.secretfile import MAX_SECRET_BYTES, read_secret

if TYPE_CHECKING:
    from pathlib import Path

KEY = SigningKey("sel", ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
PUBLIC = base64.b64encode(KEY.public).decode()
NAME = "sel._domainkey.sender.example"


def write(path: Path, octets: bytes, mode: int = 0o600) -> str:
    path.write_bytes(octets)
    path.chmod(mode)
    return str(path)


def pem() -> bytes:
    return KEY.private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o440])
def test_a_key_that_is_nobody_elses_is_read(tmp_path: Path, mode: int) -> None:
    key = read_key("sel", write(tmp_path / "k.pem", pem(), mode))
    assert key.public == KEY.public


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o602, 0o601])
def test_a_key_that_others_can_read_or_replace_is_refused(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "k.pem", pem(), mode)
    with pytest.raises(ConfigError, match="chmod 0640"):
        read_key("sel", path)


def test_refusals_name_the_file_and_hold_no_secret(tmp_path: Path) -> None:
    for octets in (b"hunter2", pem()[:80]):
        path = write(tmp_path / "k.pem", octets)
        with pytest.raises(ConfigError) as refused:
            read_key("sel", path)
        assert path in str(refused.value)
        assert "hunter2" not in str(refused.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_secret(str(tmp_path / "absent"), "the password")
    large = write(tmp_path / "large", bytes(MAX_SECRET_BYTES + 1))
    with pytest.raises(ConfigError, match="larger than"):
        read_secret(large, "the password")


@pytest.mark.req("RPT-DLV-33")
@pytest.mark.parametrize(
    ("record", "state"),
    [
        (f"v=DKIM1; k=ed25519; p={PUBLIC}", KeyState.GOOD),
        (f"v=DKIM1; k=ed25519; s=*; p={PUBLIC}", KeyState.GOOD),
        (wanted_record(KEY), KeyState.GOOD),
        (f"v=DKIM1; k=ed25519; s=email:tlsrpt; p={PUBLIC}", KeyState.GOOD),
        (f"v=DKIM1; k=ed25519; s=tlsrpt; p={PUBLIC}", KeyState.REPORTS_ONLY),
        (f"v=DKIM1; k=ed25519; s=email; p={PUBLIC}", KeyState.NOT_FOR_REPORTS),
        (f"v=DKIM1; p={PUBLIC[:20]} {PUBLIC[20:]}", KeyState.GOOD),
        ("v=DKIM1; k=ed25519; p=", KeyState.DIFFERENT),
        ("v=DKIM1; p=!!!", KeyState.DIFFERENT),
        ("v=spf1 -all", KeyState.DIFFERENT),
    ],
)
async def test_what_dns_says(record: str, state: KeyState) -> None:
    resolver = FakeResolver()
    octets = record.encode()
    resolver.add(NAME, RecordType.TXT, (octets[:30], octets[30:]))
    finding = await look_up_key(resolver, "sender.example", KEY)
    assert (finding.state, finding.name) == (state, NAME)
    assert finding.wanted == f"v=DKIM1; k=ed25519; p={PUBLIC}"


async def test_a_key_that_is_not_there_or_cannot_be_looked_up() -> None:
    resolver = FakeResolver()
    assert (await look_up_key(resolver, "sender.example", KEY)).state is KeyState.ABSENT
    resolver.fail(NAME, RecordType.TXT, Status.TIMEOUT)
    assert (await look_up_key(resolver, "sender.example", KEY)).state is KeyState.UNKNOWN
    good = f"v=DKIM1; p={PUBLIC}".encode()
    resolver.add(NAME, RecordType.TXT, (b"v=old",), (good,))
    assert (await look_up_key(resolver, "sender.example", KEY)).state is KeyState.GOOD
