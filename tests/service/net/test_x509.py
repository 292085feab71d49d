# SPDX-License-Identifier: Apache-2.0
"""Presented chains before the web PKI: each problem by its name, several at once, and no surprises.

Chains are made here, with one or two things wrong, and judged at instants of choice.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from strictmail.core.check.facts import KeyType, PkixFacts, PkixProblem
from strictmail.lab.ca import CertificateAuthority
from strictmail.lab.entries import CertFault
from strictmail.net import x509 as judged
from strictmail.net.tls import leaf_key_type
from strictmail.net.x509 import ChainVerifier
from strictmail.runtime.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Key: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

HOST = "mx.example.test"
NOW = datetime.now(UTC).replace(microsecond=0)
YEAR = timedelta(days=365)


@dataclass(frozen=True)
class Signed:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: Key

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


def curve() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


def issue(
    name: str,
    issuer: Signed | None = None,
    *,
    ca: bool = False,
    san: Sequence[str] = (HOST,),
    begin: timedelta = -YEAR,
    end: timedelta = YEAR,
    key: Key | None = None,
    purposes: Sequence[x509.ObjectIdentifier] = (),
    usage: str = "",
    extension: x509.ExtensionType | None = None,
    path_length: int | None = None,
) -> Signed:
    """A certificate, self-signed without an issuer."""
    key = key or curve()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(
        subject_name=subject,
        issuer_name=issuer.certificate.subject if issuer else subject,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=NOW + begin,
        not_valid_after=NOW + end,
    ).add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
    if san and not ca:
        names = [x509.DNSName(n) for n in san]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    if usage:
        kinds = [
            *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
            *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
        ]
        flags = {kind: kind == usage for kind in kinds}
        builder = builder.add_extension(x509.KeyUsage(**flags), critical=True)
    if extension is not None:
        builder = builder.add_extension(extension, critical=True)
    signing = issuer.key if issuer else key
    algorithm = None if isinstance(signing, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return Signed(builder.sign(signing, algorithm), key)


ROOT = issue("root", ca=True)
MIDDLE = issue("middle", ROOT, ca=True)
GOOD = issue("good", MIDDLE)
STRANGER = issue("stranger", ca=True)
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
ANY_PURPOSE = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE

OLD_MIDDLE = issue("old middle", ROOT, ca=True, begin=-3 * YEAR, end=-YEAR)
NO_CA = issue("no ca", ROOT)
SHORT = issue("short", ROOT, ca=True, path_length=0)
BELOW_SHORT = issue("below short", SHORT, ca=True)
CLIENTS = issue("for clients", ROOT, ca=True, purposes=[CLIENT])
FENCED = issue(
    "fenced",
    ROOT,
    ca=True,
    extension=x509.NameConstraints([x509.DNSName("other.test")], None),
)
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.9999.1"), b"\x05\x00")
CROSSED = issue("middle", STRANGER, ca=True, key=MIDDLE.key)
RSA_LEAF = issue("rsa", MIDDLE, key=rsa.generate_private_key(65537, 2048))
NAMESAKE = issue("root", ca=True)

EXPIRED, NOT_YET = PkixProblem.EXPIRED, PkixProblem.NOT_YET_VALID
SELF_SIGNED, UNTRUSTED = PkixProblem.SELF_SIGNED, PkixProblem.UNTRUSTED_ROOT
MISSING, NAME, INVALID = (
    PkixProblem.MISSING_INTERMEDIATE,
    PkixProblem.NAME,
    PkixProblem.INVALID,
)

CASES: dict[str, tuple[list[Signed], list[PkixProblem], int]] = {
    "good": ([GOOD, MIDDLE], [], 0),
    "with the root": ([GOOD, MIDDLE, ROOT], [], 0),
    "in disorder": ([GOOD, ROOT, STRANGER, MIDDLE], [], 0),
    "directly under the root": ([issue("direct", ROOT)], [], 0),
    "for servers": ([issue("s", MIDDLE, purposes=[CLIENT, SERVER]), MIDDLE], [], 0),
    "rsa": ([RSA_LEAF, MIDDLE], [], 0),
    "ed25519": ([issue("ed", MIDDLE, key=ed25519.Ed25519PrivateKey.generate()), MIDDLE], [], 0),
    "cross-signed, trusted way first": ([GOOD, MIDDLE, CROSSED], [], 0),
    # OpenSSL does not go back for another certificate of the same name, nor do MTAs.
    "cross-signed, trusted way last": ([GOOD, CROSSED, MIDDLE], [MISSING], 20),
    "expired": ([issue("x", MIDDLE, begin=-3 * YEAR, end=-YEAR), MIDDLE], [EXPIRED], 10),
    "early": ([issue("x", MIDDLE, begin=YEAR, end=2 * YEAR), MIDDLE], [NOT_YET], 9),
    "expired intermediate": ([issue("x", OLD_MIDDLE), OLD_MIDDLE], [EXPIRED], 10),
    "early leaf under an expired one": (
        [issue("x", OLD_MIDDLE, begin=YEAR, end=2 * YEAR), OLD_MIDDLE],
        [EXPIRED, NOT_YET],
        10,
    ),
    "self-signed": ([issue("x")], [SELF_SIGNED], 18),
    "self-signed and expired": (
        [issue("x", begin=-3 * YEAR, end=-YEAR)],
        [EXPIRED, SELF_SIGNED],
        18,
    ),
    "self-signed for another": ([issue("x", san=["y.test"])], [SELF_SIGNED, NAME], 18),
    "untrusted root": ([issue("x", STRANGER), STRANGER], [UNTRUSTED], 19),
    "root of the same name": ([issue("x", NAMESAKE), NAMESAKE], [INVALID], 7),
    "untrusted, expired, for another": (
        [issue("x", STRANGER, begin=-3 * YEAR, end=-YEAR, san=["y.test"]), STRANGER],
        [EXPIRED, UNTRUSTED, NAME],
        19,
    ),
    "missing intermediate": ([GOOD], [MISSING], 20),
    "missing beside a stranger": ([GOOD, STRANGER], [MISSING], 20),
    "missing and expired": (
        [issue("x", MIDDLE, begin=-3 * YEAR, end=-YEAR)],
        [EXPIRED, MISSING],
        20,
    ),
    "private root that is not sent": ([issue("x", STRANGER)], [MISSING], 20),
    "another name": ([issue("x", MIDDLE, san=["else.test"]), MIDDLE], [NAME], 62),
    "no dNSName": ([issue(HOST, MIDDLE, san=[]), MIDDLE], [NAME], 62),
    "wildcard": ([issue("x", MIDDLE, san=["*.example.test"]), MIDDLE], [], 0),
    "issuer is no CA": ([issue("x", NO_CA), NO_CA], [INVALID], 79),
    "path too long": ([issue("x", BELOW_SHORT), BELOW_SHORT, SHORT], [INVALID], 25),
    "name constraint": ([issue("x", FENCED), FENCED], [INVALID], 47),
    "for clients": ([issue("x", MIDDLE, purposes=[CLIENT]), MIDDLE], [INVALID], 26),
    "for anything": ([issue("x", MIDDLE, purposes=[ANY_PURPOSE]), MIDDLE], [INVALID], 26),
    "under one for clients": ([issue("x", CLIENTS), CLIENTS], [INVALID], 26),
    "key for no TLS": ([issue("x", MIDDLE, usage="crl_sign"), MIDDLE], [INVALID], 26),
    "unknown critical extension": ([issue("x", MIDDLE, extension=UNKNOWN), MIDDLE], [INVALID], 34),
    "a signature of somebody else": ([issue("x", STRANGER), MIDDLE], [MISSING], 20),
    "a forged signature": (
        [issue("x", Signed(MIDDLE.certificate, curve())), MIDDLE],
        [INVALID],
        7,
    ),
}


@pytest.fixture(scope="module")
def ca_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("ca") / "root.pem"
    path.write_bytes(b"comment\n" + ROOT.certificate.public_bytes(Encoding.PEM))
    return str(path)


@pytest.fixture
def verifier(ca_file: str) -> ChainVerifier:
    return ChainVerifier(ca_file)


def ders(chain: Sequence[Signed]) -> list[bytes]:
    return [signed.der for signed in chain]


@pytest.mark.parametrize("key", CASES)
@pytest.mark.req("STS-APP-31", "STS-APP-32", "STS-APP-33", "STS-APP-34")
def test_problems(verifier: ChainVerifier, key: str) -> None:
    chain, problems, code = CASES[key]
    facts = verifier.verify(ders(chain), HOST, NOW)
    assert list(facts.problems) == problems, facts
    assert facts.verify_code == code
    assert bool(facts.detail) is bool(problems)
    assert facts.is_valid is not bool(problems)
    assert facts.reference_id == HOST


@pytest.mark.parametrize("key", CASES)
def test_openssl_agrees(openssl: str, ca_file: str, tmp_path: Path, key: str) -> None:
    chain, _, code = CASES[key]
    pem = [signed.certificate.public_bytes(Encoding.PEM) for signed in chain]
    (tmp_path / "leaf.pem").write_bytes(pem[0])
    (tmp_path / "rest.pem").write_bytes(b"".join(pem[1:]))
    command = [openssl, "verify", "-CAfile", ca_file, "-no-CApath", "-purpose", "sslserver"]
    command += ["-verify_hostname", HOST]
    command += ["-untrusted", "rest.pem"] if pem[1:] else []
    command.append("leaf.pem")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    found = re.search(r"error (\d+) at", said)
    assert int(found[1] if found else 0) == (OPENSSL_SAYS.get(key, code)), said


OPENSSL_SAYS = {
    # RFC 8461 §4.2 rules out the common name; the command still takes it.
    "no dNSName": 0,
}


@pytest.fixture
def openssl() -> str:
    path = shutil.which("openssl")
    if path is None:
        pytest.skip("the openssl command is not installed")
    return path


@pytest.mark.parametrize(
    ("bits", "digest", "problems"),
    [
        (2048, "sha256", []),
        (1024, "sha256", []),
        (768, "sha256", [INVALID]),
        (2048, "sha1", [INVALID]),
    ],
)
def test_strength(
    openssl: str, ca_file: str, tmp_path: Path, bits: int, digest: str, problems: list[PkixProblem]
) -> None:
    # `cryptography` makes nothing weak any more; the command still does.
    (tmp_path / "root.key").write_bytes(
        ROOT.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    (tmp_path / "names").write_text(f"subjectAltName=DNS:{HOST}")
    request = f"req -new -newkey rsa:{bits} -nodes -keyout leaf.key -subj /CN=x -out leaf.csr"
    certify = (
        f"x509 -req -in leaf.csr -CA {ca_file} -CAkey root.key -set_serial 5 -days 2 -{digest} "
        "-extfile names -outform DER -out leaf.der"
    )
    for step in (request, certify):
        subprocess.run([openssl, *step.split()], cwd=tmp_path, check=True, capture_output=True)
    leaf = (tmp_path / "leaf.der").read_bytes()
    later = NOW + timedelta(days=1)
    assert list(ChainVerifier(ca_file).verify([leaf], HOST, later).problems) == problems


LIFE = issue("life", ROOT, begin=timedelta(0), end=timedelta(hours=10))


@pytest.mark.parametrize(
    ("at", "problems"),
    [
        (timedelta(seconds=-1), [NOT_YET]),
        (timedelta(0), []),
        (timedelta(hours=10), []),
        (timedelta(hours=10, seconds=1), [EXPIRED]),
        (YEAR, [EXPIRED]),
    ],
)
def test_the_edges_of_validity(
    verifier: ChainVerifier, at: timedelta, problems: list[PkixProblem]
) -> None:
    # Asked before at other times, too: what is kept must not outlive a date.
    for moment in (timedelta(hours=5), at, timedelta(minutes=1), at):
        facts = verifier.verify([LIFE.der], HOST, NOW + moment)
    assert list(facts.problems) == problems


def test_dates_of_roots_count(verifier: ChainVerifier) -> None:
    late = issue("late", ROOT, end=10 * YEAR)
    facts = verifier.verify([late.der], HOST, NOW + 2 * YEAR)
    assert facts.problems == (EXPIRED,)
    assert "`CN=root`" in facts.detail


def test_results_are_kept(verifier: ChainVerifier, monkeypatch: pytest.MonkeyPatch) -> None:
    first = verifier.verify(ders([GOOD, MIDDLE]), HOST, NOW)
    later = NOW + timedelta(minutes=30)
    assert verifier.verify(ders([GOOD, MIDDLE]), HOST, later) is first
    assert verifier.verify(ders([GOOD, MIDDLE]), HOST, NOW + timedelta(hours=2)) is not first
    assert verifier.verify(ders([GOOD, MIDDLE]), "other.test", NOW).problems == (NAME,)
    assert verifier.verify(ders([GOOD]), HOST, NOW).problems == (MISSING,)
    monkeypatch.setattr(judged, "CACHE_ENTRIES", 2)
    for number in range(4):
        verifier.verify(ders([GOOD, MIDDLE]), f"mx{number}.test", NOW)
    assert len(verifier._cache) <= 5


def test_sentences_say_which(verifier: ChainVerifier) -> None:
    def detail(chain: Sequence[Signed]) -> str:
        return verifier.verify(ders(chain), HOST, NOW).detail

    end = NOW - YEAR
    assert f"`CN=old middle` expired at {end:%Y-%m-%d %H:%M:%SZ}" in detail(
        [issue("x", OLD_MIDDLE), OLD_MIDDLE]
    )
    assert "`CN=middle`, was not sent" in detail([GOOD])
    assert "`CN=stranger`, which is no root" in detail([issue("x", STRANGER), STRANGER])
    assert "`else.test`" in detail([issue("x", MIDDLE, san=["else.test"]), MIDDLE])
    many = detail([issue("x", MIDDLE, san=[f"h{n}.test" for n in range(9)]), MIDDLE])
    assert many.endswith("and 4 more")


@pytest.mark.parametrize("chain", [[], [b""], [b"junk"], [b"\x30\x80"], [b"\x30\x03\x02\x01\x05"]])
def test_what_is_no_certificate(verifier: ChainVerifier, chain: list[bytes]) -> None:
    facts = verifier.verify(chain, HOST, NOW)
    assert INVALID in facts.problems
    assert facts.verify_code


@given(st.integers(0, len(GOOD.der) - 1), st.integers(1, 255))
def test_a_flipped_octet_never_raises_and_never_passes(place: int, flip: int) -> None:
    der = bytearray(GOOD.der)
    der[place] ^= flip
    facts: PkixFacts = SHARED.verify([bytes(der), MIDDLE.der], HOST, NOW)
    assert not facts.is_valid
    assert facts.detail.isprintable()


@given(st.lists(st.sampled_from([GOOD, MIDDLE, ROOT, STRANGER, NO_CA, CROSSED]), max_size=40))
def test_any_chain(chain: list[Signed]) -> None:
    SHARED.verify(ders(chain), HOST, NOW)
    SHARED.verify([*ders(chain), b"junk"], "", NOW)


@pytest.fixture(scope="module", autouse=True)
def shared(ca_file: str) -> None:
    # Hypothesis does not go well with fixtures of functions.
    global SHARED  # noqa: PLW0603
    SHARED = ChainVerifier(ca_file)


SHARED: ChainVerifier


def test_the_system_s_roots(monkeypatch: pytest.MonkeyPatch, ca_file: str, tmp_path: Path) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", ca_file)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    assert ChainVerifier().verify(ders([GOOD, MIDDLE]), HOST, NOW).is_valid


def test_a_directory_of_roots(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    # The name that OpenSSL looks for: a hash of the subject.
    from OpenSSL import crypto

    number = crypto.X509.from_cryptography(ROOT.certificate).subject_name_hash()
    pem = ROOT.certificate.public_bytes(Encoding.PEM)
    (tmp_path / f"{number:08x}.0").write_bytes(pem)
    assert ChainVerifier().verify(ders([GOOD, MIDDLE]), HOST, NOW).is_valid


def test_without_roots_nothing_is_judged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    with pytest.raises(OSError, match="no trusted root"):
        ChainVerifier()


@pytest.mark.parametrize(
    "content", [b"", b"no PEM", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_file_without_roots(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ca.pem").write_bytes(content)
    with pytest.raises(OSError, match=r"ca\.pem"):
        ChainVerifier(str(tmp_path / "ca.pem"))


LAB_FAULTS = {
    CertFault.EXPIRED: EXPIRED,
    CertFault.EXPIRED_INTERMEDIATE: EXPIRED,
    CertFault.NOT_YET_VALID: NOT_YET,
    CertFault.SELF_SIGNED: SELF_SIGNED,
    CertFault.UNTRUSTED_CA: UNTRUSTED,
    CertFault.MISSING_INTERMEDIATE: MISSING,
    CertFault.WRONG_NAME: NAME,
    CertFault.DOMAIN_ONLY: NAME,
    CertFault.WILDCARD_TOO_HIGH: NAME,
    CertFault.PARTIAL_WILDCARD: NAME,
    CertFault.COMMON_NAME_ONLY: NAME,
    CertFault.ADDRESS_ONLY: NAME,
}


@pytest.mark.parametrize("fault", CertFault)
def test_certificates_of_the_lab(tmp_path: Path, fault: CertFault) -> None:
    now = SystemClock().now()
    ca = CertificateAuthority(tmp_path, now)
    made = ca.issue(fault, HOST, domain="example.test", address="192.0.2.1")
    expected = (LAB_FAULTS[fault],) if fault in LAB_FAULTS else ()
    verifier = ChainVerifier(str(ca.ca_file))
    for credentials in (made, *([made.other] if made.other else [])):
        chain = [c.public_bytes(Encoding.DER) for c in credentials.chain]
        assert verifier.verify(chain, HOST, now).problems == expected


def test_kinds_of_keys() -> None:
    assert leaf_key_type(GOOD.der) is KeyType.ECDSA
    assert leaf_key_type(RSA_LEAF.der) is KeyType.RSA
    assert leaf_key_type(CASES["ed25519"][0][0].der) is KeyType.OTHER
    assert leaf_key_type(b"junk") is KeyType.OTHER
