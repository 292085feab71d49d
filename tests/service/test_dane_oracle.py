# SPDX-License-Identifier: Apache-2.0
"""DANE authentication, case by case, against the requirement and against OpenSSL.

Each case says what must come out: `openssl s_client -dane_tlsa_rrdata`, which is what Postfix
and Exim do inside, has to agree, but for OPENSSL_DIFFERS.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from strictmail.core.dane.authenticate import DaneOutcome, authenticate
from strictmail.core.dnsvalues import Tlsa

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

pytestmark = pytest.mark.slow

HOST = "mx.example.test"
# OpenSSL reads the clock of the machine: certificates are dated around it, years away from edges.
NOW = datetime.now(UTC)
YEAR = timedelta(days=365)


@dataclass(frozen=True)
class Signed:
    """A certificate, and the key it certifies."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def spki(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def tlsa(self, usage: int, selector: int, mtype: int) -> Tlsa:
        data = self.spki if selector else self.der
        if mtype:
            data = (hashlib.sha256 if mtype == 1 else hashlib.sha512)(data).digest()
        return Tlsa(usage, selector, mtype, data)


def issue(
    name: str,
    issuer: Signed | None = None,
    *,
    ca: bool = True,
    path_length: int | None = None,
    san: Sequence[str] = (),
    begin: timedelta = -2 * YEAR,
    end: timedelta = 2 * YEAR,
    constraints: x509.NameConstraints | None = None,
    purpose: x509.ObjectIdentifier | None = None,
    extension: x509.ExtensionType | None = None,
    key: ec.EllipticCurvePrivateKey | None = None,
) -> Signed:
    """A certificate, self-signed without an issuer."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(
        subject_name=subject,
        issuer_name=issuer.certificate.subject if issuer else subject,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=NOW + begin,
        not_valid_after=NOW + end,
    ).add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
    if san:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(n) for n in san]), critical=False
        )
    if constraints is not None:
        builder = builder.add_extension(constraints, critical=True)
    if purpose is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    if extension is not None:
        builder = builder.add_extension(extension, critical=True)
    return Signed(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key)


@dataclass(frozen=True)
class Case:
    """A chain, the records in DNS, and what must come of it."""

    chain: list[Signed]
    records: list[Tlsa]
    outcome: DaneOutcome
    name: str = HOST


def constrain(*, permitted: str = "", excluded: str = "") -> x509.NameConstraints:
    return x509.NameConstraints(
        permitted_subtrees=[x509.DNSName(permitted)] if permitted else None,
        excluded_subtrees=[x509.DNSName(excluded)] if excluded else None,
    )


GOOD = DaneOutcome.AUTHENTICATED
MISMATCH, UNTRUSTED = DaneOutcome.MISMATCH, DaneOutcome.UNTRUSTED
EXPIRED, NAME = DaneOutcome.EXPIRED, DaneOutcome.NAME

ROOT = issue("root")
MIDDLE = issue("middle", ROOT)
LEAF = issue("leaf", MIDDLE, ca=False, san=[HOST])
DIRECT = issue("direct", ROOT, ca=False, san=[HOST])
OTHER = issue("other")
STALE = issue("stale", begin=-4 * YEAR, end=-YEAR, ca=False)
STALE_LEAF = issue("stale leaf", MIDDLE, ca=False, san=[HOST], begin=-4 * YEAR, end=-YEAR)
EARLY_LEAF = issue("early leaf", MIDDLE, ca=False, san=[HOST], begin=YEAR)
STALE_ROOT = issue("stale root", begin=-4 * YEAR, end=-YEAR)
UNDER_STALE_ROOT = issue("under stale root", STALE_ROOT, ca=False, san=[HOST])
STALE_MIDDLE = issue("stale middle", ROOT, begin=-4 * YEAR, end=-YEAR)
UNDER_STALE_MIDDLE = issue("under stale middle", STALE_MIDDLE, ca=False, san=[HOST])
NOT_A_CA = issue("not a ca", ROOT, ca=False)
UNDER_NO_CA = issue("under no ca", NOT_A_CA, ca=False, san=[HOST])
SHORT_ROOT = issue("short root", path_length=0)
SHORT_MIDDLE = issue("short middle", SHORT_ROOT)
UNDER_SHORT = issue("under short", SHORT_MIDDLE, ca=False, san=[HOST])
DIRECT_SHORT = issue("direct short", SHORT_ROOT, ca=False, san=[HOST])
FENCED_ROOT = issue("fenced root", constraints=constrain(permitted="example.test"))
INSIDE = issue("inside", FENCED_ROOT, ca=False, san=[HOST])
OUTSIDE = issue("outside", FENCED_ROOT, ca=False, san=[HOST, "mx.other.test"])
BARRED_ROOT = issue("barred root", constraints=constrain(excluded="mx.example.test"))
BARRED = issue("barred", BARRED_ROOT, ca=False, san=[HOST])
BESIDE = issue("beside", BARRED_ROOT, ca=False, san=["xmx.example.test"])
CLIENT = issue("client", ROOT, ca=False, san=[HOST], purpose=ExtendedKeyUsageOID.CLIENT_AUTH)
SERVER = issue("server", ROOT, ca=False, san=[HOST], purpose=ExtendedKeyUsageOID.SERVER_AUTH)
STRANGE = issue(
    "strange",
    ROOT,
    ca=False,
    san=[HOST],
    extension=x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.9999.1"), b"\x05\x00"),
)
NAMESAKE = issue("root")
UNDER_NAMESAKE = issue("under namesake", NAMESAKE, ca=False, san=[HOST])
SELF = issue(HOST, ca=False, san=[HOST])
COMMON_NAME = issue(HOST, ROOT, ca=False)
OTHER_SAN = issue(HOST, ROOT, ca=False, san=["else.example.test"])
WILDCARD = issue("wildcard", ROOT, ca=False, san=["*.example.test"])
WRONG = issue("wrong", ROOT, ca=False, san=["mx.other.test"])

CASES = {
    # DANE-EE
    "ee-spki": Case([LEAF], [LEAF.tlsa(3, 1, 1)], GOOD),
    "ee-cert-512": Case([LEAF, MIDDLE], [LEAF.tlsa(3, 0, 2)], GOOD),
    "ee-full-cert": Case([LEAF], [LEAF.tlsa(3, 0, 0)], GOOD),
    "ee-full-key": Case([LEAF], [LEAF.tlsa(3, 1, 0)], GOOD),
    "ee-expired-nameless": Case([STALE], [STALE.tlsa(3, 1, 1)], GOOD),
    "ee-wrong-name": Case([WRONG, ROOT], [WRONG.tlsa(3, 1, 1)], GOOD),
    "ee-mismatch": Case([LEAF, MIDDLE], [OTHER.tlsa(3, 1, 1)], MISMATCH),
    "ee-of-a-ca-in-the-chain": Case([LEAF, MIDDLE], [MIDDLE.tlsa(3, 1, 1)], MISMATCH),
    "ee-agility": Case([LEAF], [LEAF.tlsa(3, 1, 1), OTHER.tlsa(3, 1, 2)], MISMATCH),
    "ee-agility-other-selector": Case([LEAF], [LEAF.tlsa(3, 0, 1), OTHER.tlsa(3, 1, 2)], GOOD),
    "ee-after-failed-ta": Case([LEAF], [OTHER.tlsa(2, 0, 1), LEAF.tlsa(3, 1, 1)], GOOD),
    # DANE-TA with the anchor in the chain
    "ta-root": Case([LEAF, MIDDLE, ROOT], [ROOT.tlsa(2, 0, 1)], GOOD),
    "ta-root-key": Case([LEAF, MIDDLE, ROOT], [ROOT.tlsa(2, 1, 1)], GOOD),
    "ta-middle-without-root": Case([LEAF, MIDDLE], [MIDDLE.tlsa(2, 0, 1)], GOOD),
    "ta-mixed-order": Case([LEAF, ROOT, MIDDLE], [ROOT.tlsa(2, 0, 2)], GOOD),
    "ta-and-strangers": Case([LEAF, OTHER, MIDDLE], [MIDDLE.tlsa(2, 1, 2)], GOOD),
    "ta-missing": Case([LEAF, MIDDLE], [ROOT.tlsa(2, 0, 1)], MISMATCH),
    "ta-beside-the-path": Case([LEAF, OTHER], [OTHER.tlsa(2, 0, 1)], UNTRUSTED),
    "ta-gap": Case([LEAF, ROOT], [ROOT.tlsa(2, 0, 1)], UNTRUSTED),
    "ta-namesake": Case([UNDER_NAMESAKE, ROOT], [ROOT.tlsa(2, 0, 1)], UNTRUSTED),
    "ta-right-one-of-two-namesakes": Case(
        [UNDER_NAMESAKE, ROOT, NAMESAKE], [NAMESAKE.tlsa(2, 0, 1)], GOOD
    ),
    "ta-of-leaf": Case([DIRECT, ROOT], [DIRECT.tlsa(2, 0, 1)], MISMATCH),
    "ta-of-self-signed-leaf": Case([SELF], [SELF.tlsa(2, 0, 1)], MISMATCH),
    # DANE-TA with the anchor in DNS
    "ta-full-cert-in-dns": Case([LEAF, MIDDLE], [ROOT.tlsa(2, 0, 0)], GOOD),
    "ta-full-cert-direct": Case([DIRECT], [ROOT.tlsa(2, 0, 0)], GOOD),
    "ta-full-key-in-dns": Case([LEAF, MIDDLE], [ROOT.tlsa(2, 1, 0)], GOOD),
    "ta-full-key-direct": Case([DIRECT], [ROOT.tlsa(2, 1, 0)], GOOD),
    "ta-full-wrong-cert": Case([DIRECT], [OTHER.tlsa(2, 0, 0)], UNTRUSTED),
    "ta-full-wrong-key": Case([DIRECT], [OTHER.tlsa(2, 1, 0)], MISMATCH),
    "ta-full-namesake": Case([UNDER_NAMESAKE], [ROOT.tlsa(2, 0, 0)], UNTRUSTED),
    # dates
    "ta-expired-leaf": Case([STALE_LEAF, MIDDLE], [MIDDLE.tlsa(2, 0, 1)], EXPIRED),
    "ta-early-leaf": Case([EARLY_LEAF, MIDDLE], [MIDDLE.tlsa(2, 0, 1)], EXPIRED),
    "ta-expired-middle": Case(
        [UNDER_STALE_MIDDLE, STALE_MIDDLE, ROOT], [ROOT.tlsa(2, 0, 1)], EXPIRED
    ),
    "ta-expired-anchor": Case([UNDER_STALE_ROOT, STALE_ROOT], [STALE_ROOT.tlsa(2, 0, 1)], EXPIRED),
    # constraints
    "ta-issuer-is-no-ca": Case([UNDER_NO_CA, NOT_A_CA, ROOT], [ROOT.tlsa(2, 0, 1)], UNTRUSTED),
    "ta-anchor-is-no-ca": Case([UNDER_NO_CA, NOT_A_CA], [NOT_A_CA.tlsa(2, 0, 1)], UNTRUSTED),
    "ta-path-too-long": Case(
        [UNDER_SHORT, SHORT_MIDDLE, SHORT_ROOT], [SHORT_ROOT.tlsa(2, 0, 1)], UNTRUSTED
    ),
    "ta-path-just-long-enough": Case([DIRECT_SHORT, SHORT_ROOT], [SHORT_ROOT.tlsa(2, 0, 1)], GOOD),
    "ta-path-too-long-by-key": Case(
        [UNDER_SHORT, SHORT_MIDDLE, SHORT_ROOT], [SHORT_ROOT.tlsa(2, 1, 1)], UNTRUSTED
    ),
    "ta-name-permitted": Case([INSIDE, FENCED_ROOT], [FENCED_ROOT.tlsa(2, 0, 1)], GOOD),
    "ta-name-not-permitted": Case([OUTSIDE, FENCED_ROOT], [FENCED_ROOT.tlsa(2, 0, 1)], UNTRUSTED),
    "ta-name-excluded": Case([BARRED, BARRED_ROOT], [BARRED_ROOT.tlsa(2, 0, 1)], UNTRUSTED),
    "ta-name-beside-excluded": Case(
        [BESIDE, BARRED_ROOT], [BARRED_ROOT.tlsa(2, 0, 1)], GOOD, name="xmx.example.test"
    ),
    "ta-for-clients": Case([CLIENT, ROOT], [ROOT.tlsa(2, 0, 1)], UNTRUSTED),
    "ta-for-servers": Case([SERVER, ROOT], [ROOT.tlsa(2, 0, 1)], GOOD),
    "ta-unknown-critical": Case([STRANGE, ROOT], [ROOT.tlsa(2, 0, 1)], UNTRUSTED),
    # names
    "ta-wrong-name": Case([WRONG, ROOT], [ROOT.tlsa(2, 0, 1)], NAME),
    "ta-common-name": Case([COMMON_NAME, ROOT], [ROOT.tlsa(2, 0, 1)], GOOD),
    "ta-common-name-beside-san": Case([OTHER_SAN, ROOT], [ROOT.tlsa(2, 0, 1)], NAME),
    "ta-wildcard": Case([WILDCARD, ROOT], [ROOT.tlsa(2, 0, 1)], GOOD),
    "ta-wildcard-one-label": Case(
        [WILDCARD, ROOT],
        [ROOT.tlsa(2, 0, 1)],
        NAME,
        name="a.b.example.test",
    ),
}

REQUIREMENTS = {
    "ee-expired-nameless": ("DANE-60",),
    "ee-wrong-name": ("DANE-61",),
    "ee-agility": ("DANE-52",),
    "ee-mismatch": ("DANE-74",),
    "ta-root": ("DANE-62",),
    "ta-of-self-signed-leaf": ("DANE-72",),
    "ta-full-cert-in-dns": ("DANE-69",),
    "ta-full-key-in-dns": ("DANE-70",),
    "ta-expired-leaf": ("DANE-62",),
    "ta-path-too-long": ("DANE-71",),
    "ta-name-not-permitted": ("DANE-71",),
    "ta-common-name": ("DANE-65",),
    "ta-common-name-beside-san": ("DANE-65",),
    "ta-wildcard": ("DANE-66",),
    "ta-wildcard-one-label": ("DANE-67",),
}
OPENSSL_DIFFERS = {
    # It takes the first certificate of the issuer's name, and does not go back for another.
    "ta-right-one-of-two-namesakes",
}

PARAMETERS = [
    pytest.param(case, id=key, marks=pytest.mark.req(*REQUIREMENTS.get(key, ("DANE-62",))))
    for key, case in CASES.items()
]


@pytest.mark.parametrize("case", PARAMETERS)
def test_requirement(case: Case) -> None:
    result = authenticate(case.records, [s.der for s in case.chain], [case.name], NOW)
    assert result.outcome is case.outcome, result.detail
    assert result.is_authenticated is (case.outcome is GOOD)


@pytest.fixture
def openssl() -> str:
    path = shutil.which("openssl")
    if path is None:
        pytest.skip("the openssl command is not installed")
    return path


def write_chain(directory: Path, chain: Sequence[Signed]) -> None:
    pem = [s.certificate.public_bytes(Encoding.PEM) for s in chain]
    (directory / "leaf.pem").write_bytes(pem[0])
    (directory / "rest.pem").write_bytes(b"".join(pem[1:]))
    (directory / "key.pem").write_bytes(
        chain[0].key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )


def serve(openssl: str, directory: Path, chain: Sequence[Signed]) -> Iterator[int]:
    """Present a chain on a free port of the loopback, for one connection."""
    write_chain(directory, chain)
    command = [openssl, "s_server", "-accept", "127.0.0.1:0", "-naccept", "1"]
    command += ["-cert", "leaf.pem", "-key", "key.pem"]
    if len(chain) > 1:
        command += ["-cert_chain", "rest.pem"]
    with subprocess.Popen(
        command,
        cwd=directory,
        stdin=subprocess.PIPE,  # at its end s_server would drop the connection
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdout is not None
        for line in server.stdout:
            if line.startswith("ACCEPT"):
                yield int(line.rsplit(":", 1)[1])
                break
        server.terminate()


@pytest.mark.parametrize("case", PARAMETERS)
def test_openssl_agrees(
    case: Case, openssl: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    for port in serve(openssl, tmp_path, case.chain):
        command = [openssl, "s_client", "-connect", f"127.0.0.1:{port}", "-brief"]
        # As Postfix does, RFC 7672 §3.1.1: no name check with DANE-EE.
        command += ["-dane_ee_no_namechecks"]
        command += ["-no-CAfile", "-no-CApath", "-no-CAstore", "-dane_tlsa_domain", case.name]
        for record in case.records:
            command += ["-dane_tlsa_rrdata", str(record)]
        done = subprocess.run(
            command, input="", capture_output=True, text=True, timeout=30, check=False
        )
        said = done.stdout + done.stderr
        assert "Verification" in said, said
        verified = "Verification: OK" in said
        differs = request.node.callspec.id in OPENSSL_DIFFERS
        assert verified is ((case.outcome is GOOD) is not differs), said
