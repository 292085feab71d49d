# SPDX-License-Identifier: Apache-2.0
"""A presented chain before the web PKI, for the name of an MX host, with all that is wrong named.

OpenSSL is the judge, since it is the one inside MTAs: `X509StoreContext` of pyOpenSSL. It stops at
its first objection; what stood in the way is then put aside and it is asked again, until it has
no more to say:

============================  ===========================  =======================================
OpenSSL says                  problem                      put aside by
============================  ===========================  =======================================
9, 10                         NOT_YET_VALID, EXPIRED       looking away from dates; all
                                                           certificates of the path are then held
                                                           against the clock
18                            SELF_SIGNED                  trusting the certificate where the path
19                            UNTRUSTED_ROOT               ended, and nothing else
2, 20, 21                     MISSING_INTERMEDIATE         the same
anything else                 INVALID                      nothing: that was all
============================  ===========================  =======================================

Then, on the path that OpenSSL built: whether each certificate is for servers, and whether keys and
signatures are strong enough (`net.x509path`). The name is held against dNSNames alone
(`core.certname`). Missing intermediates are not fetched, revocation is not looked up: MTAs do
neither (STS-FET-13).

A result holds until the next date of a certificate in the chain comes, so it is kept until then,
for CACHE_SECONDS at most: hosts by the thousand present the same chain.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import ssl
from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from strictmail.core.certname import CertContext, match_certificate
from strictmail.core.check.facts import PkixFacts, PkixProblem
from strictmail.core.dane.tlsa import load_certificate
from strictmail.core.tagrecord import quote
from strictmail.net.x509path import (
    called,
    describe,
    expired,
    has_weak_key,
    has_weak_signature,
    is_for_servers,
    not_yet_valid,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cryptography import x509
    from OpenSSL import crypto

MAX_CHAIN_CERTIFICATES: Final = 32
"""Of a presented chain that are looked at."""

CACHE_ENTRIES: Final = 4096
"""Results that are kept: some 1 KB each."""

CACHE_SECONDS: Final = 3600
"""A result is kept no longer: the roots of the system may change."""

_NO_CHECK_TIME: Final = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME, which pyOpenSSL has no name for."""

_CODES: Final = {
    2: PkixProblem.MISSING_INTERMEDIATE,
    9: PkixProblem.NOT_YET_VALID,
    10: PkixProblem.EXPIRED,
    18: PkixProblem.SELF_SIGNED,
    19: PkixProblem.UNTRUSTED_ROOT,
    20: PkixProblem.MISSING_INTERMEDIATE,
    21: PkixProblem.MISSING_INTERMEDIATE,
}
_DATES: Final = frozenset({PkixProblem.NOT_YET_VALID, PkixProblem.EXPIRED})
_UNSPECIFIED: Final = 1
_NAME_MISMATCH: Final = 62
_WEAK_LEAF, _WEAK_AUTHORITY, _WEAK_HASH, _WRONG_PURPOSE = 66, 67, 68, 26
"""X509_V_ERR_EE_KEY_TOO_SMALL, _CA_KEY_TOO_SMALL, _CA_MD_TOO_WEAK, _INVALID_PURPOSE."""

_PEM: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_MAX_SHOWN_NAMES: Final = 5
_MAX_ROUNDS: Final = 4
"""The web PKI, without dates, without roots, without both."""


class ChainVerifier:
    """Judges chains by one set of roots.

    Not for several threads at once. pyOpenSSL is imported when one is made.

    Args:
        ca_file: Trusted roots in PEM; None for the system's.

    Raises:
        OSError: The roots cannot be read, or the system has none: without roots, every
            certificate would seem to be bad.
    """

    def __init__(self, ca_file: str | None = None) -> None:
        self._roots = _Roots(ca_file)
        self._cache: OrderedDict[tuple[bytes, str], _Kept] = OrderedDict()

    def verify(self, chain_der: Sequence[bytes], reference_id: str, now: datetime) -> PkixFacts:
        """Judge a chain; never raises, whatever a server sent.

        Args:
            chain_der: As presented, leaf first; DER.
            reference_id: The name of the MX host, as in the MX record.
            now: Aware.

        Spec: RFC 8461 §4.2.
        """
        chain = tuple(chain_der[:MAX_CHAIN_CERTIFICATES])
        key = (_digest(chain), reference_id)
        kept = self._cache.get(key)
        if kept is not None and kept.begin <= now < kept.end:
            self._cache.move_to_end(key)
            return kept.facts
        work = _Verification(self._roots, chain, reference_id, now.astimezone(UTC))
        facts = work.judge()
        self._cache[key] = _keep(facts, work.dates, now)
        self._cache.move_to_end(key)
        if len(self._cache) > CACHE_ENTRIES:
            self._cache.popitem(last=False)
        return facts


class _Kept(NamedTuple):
    """A result, and from when until when it holds."""

    facts: PkixFacts
    begin: datetime
    end: datetime


def _keep(facts: PkixFacts, dates: Iterable[datetime], now: datetime) -> _Kept:
    """How long a result holds: no date of a certificate is passed in that time."""
    marks = sorted(dates)
    place = bisect_right(marks, now)
    limit = timedelta(seconds=CACHE_SECONDS)
    begin = max([now - limit, *marks[place - 1 : place]]) if place else now - limit
    end = min([now + limit, *marks[place : place + 1]])
    return _Kept(facts, begin, end)


def _digest(chain: Sequence[bytes]) -> bytes:
    digest = hashlib.sha256()
    for der in chain:
        digest.update(len(der).to_bytes(4, "big") + der)
    return digest.digest()


class _Roots:
    """Trusted roots, of which a store can be made for each question: in some 0.2 ms for 150.

    A store cannot be asked for a second instant, and never looks away from dates again.
    """

    def __init__(self, ca_file: str | None) -> None:
        files = [ca_file] if ca_file is not None else []
        self._directory: str | None = None
        if ca_file is None:
            # pyOpenSSL's own OpenSSL would look in the places of the machine it was built on.
            paths = ssl.get_default_verify_paths()
            files = [paths.cafile] if paths.cafile else []
            if paths.capath and any(Path(paths.capath).iterdir()):
                self._directory = paths.capath
        self._certificates = [c for file in files for c in _load_pem(Path(file))]
        if not self._certificates and self._directory is None:
            raise FileNotFoundError("this system has no trusted root certificates; name a CA file")

    def store(self) -> crypto.X509Store:
        """A new store with all of them."""
        from OpenSSL import crypto

        store = crypto.X509Store()
        for certificate in self._certificates:
            store.add_cert(certificate)
        if self._directory is not None:
            store.load_locations(None, self._directory)
        return store


def _load_pem(path: Path) -> list[crypto.X509]:
    """The certificates of a file; what OpenSSL cannot read in it is no root.

    Raises:
        OSError: The file cannot be read, or there is none in it.
    """
    from OpenSSL import crypto

    found = []
    for block in _PEM.findall(path.read_bytes()):
        with contextlib.suppress(crypto.Error):
            found.append(crypto.load_certificate(crypto.FILETYPE_PEM, block))
    if not found:
        raise OSError(f"no certificate can be read from {path}")
    return found


class _Objection(NamedTuple):
    """What OpenSSL says against a path, and against which certificate."""

    code: int
    message: str
    certificate: crypto.X509


@dataclass(slots=True)
class _Verification:
    """One chain, one name, one instant."""

    roots: _Roots
    chain: tuple[bytes, ...]
    reference_id: str
    now: datetime
    problems: set[PkixProblem] = field(default_factory=set)
    code: int = 0
    sentences: list[str] = field(default_factory=list)
    path: list[x509.Certificate] = field(default_factory=list)

    def judge(self) -> PkixFacts:
        """Everything that is wrong."""
        loaded = [load_certificate(der) for der in self.chain]
        self.path = [certificate for certificate in loaded if certificate is not None]
        if not loaded:
            self._note(PkixProblem.INVALID, _UNSPECIFIED, "no certificate was presented")
        for judge in (self._judge_path, self._judge_name) if loaded else ():
            try:
                judge()
            except _oddities() as oddity:
                sentence = f"a certificate cannot be read: {quote(str(oddity))}"
                self._note(PkixProblem.INVALID, _UNSPECIFIED, sentence)
        return PkixFacts(
            reference_id=self.reference_id,
            problems=tuple(problem for problem in PkixProblem if problem in self.problems),
            verify_code=self.code,
            detail="; ".join(self.sentences),
        )

    @property
    def dates(self) -> list[datetime]:
        """When a certificate begins, or is over: the result may then be another."""
        try:
            begins = [certificate.not_valid_before_utc for certificate in self.path]
            # RFC 5280 §4.1.2.5: valid up to and with its last second.
            ends = [c.not_valid_after_utc + timedelta(seconds=1) for c in self.path]
        except (ValueError, OverflowError):
            return []
        return begins + ends

    def _note(self, problem: PkixProblem, code: int, sentence: str) -> None:
        self.problems.add(problem)
        self.code = self.code or code
        if sentence not in self.sentences:
            self.sentences.append(sentence)

    def _judge_path(self) -> None:
        from OpenSSL import crypto

        stack = [crypto.load_certificate(crypto.FILETYPE_ASN1, der) for der in self.chain]
        anchor: crypto.X509 | None = None
        is_dated = True
        for _ in range(_MAX_ROUNDS):
            result = self._ask(stack, anchor, is_dated=is_dated)
            if not isinstance(result, _Objection):
                self._judge_verified(result, is_dated=is_dated)
                return
            problem = _CODES.get(result.code, PkixProblem.INVALID)
            if problem in self.problems and problem not in _DATES:
                return
            self._note(problem, result.code, _say(problem, result))
            if problem is PkixProblem.INVALID:
                return
            if problem in _DATES:
                is_dated = False
            else:
                anchor = result.certificate

    def _ask(
        self, stack: list[crypto.X509], anchor: crypto.X509 | None, *, is_dated: bool
    ) -> _Objection | list[crypto.X509]:
        """The path that OpenSSL finds to a root, or to an anchor; or its first objection."""
        from OpenSSL import crypto

        if anchor is None:
            store = self.roots.store()
        else:
            store = crypto.X509Store()
            store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
            store.add_cert(anchor)
        if is_dated:
            store.set_time(self.now)
        else:
            store.set_flags(_NO_CHECK_TIME)
        try:
            return crypto.X509StoreContext(store, stack[0], stack[1:]).get_verified_chain()
        except crypto.X509StoreContextError as error:
            code, _, message = error.errors
            return _Objection(code, message, error.certificate)

    def _judge_verified(self, path: list[crypto.X509], *, is_dated: bool) -> None:
        """What OpenSSL did not look at on a path that it has found."""
        from OpenSSL import crypto

        ders = [crypto.dump_certificate(crypto.FILETYPE_ASN1, link) for link in path]
        self.path = [link for link in map(load_certificate, ders) if link is not None]
        if not is_dated:
            self._judge_dates()
        for depth, certificate in enumerate(self.path):
            if not is_for_servers(certificate, is_leaf=depth == 0):
                sentence = f"{called(certificate)} is not meant for TLS servers"
                self._note(PkixProblem.INVALID, _WRONG_PURPOSE, sentence)
            if has_weak_key(certificate):
                code = _WEAK_AUTHORITY if depth else _WEAK_LEAF
                self._note(PkixProblem.INVALID, code, f"{called(certificate)} has a weak key")
        # Nobody depends on the signature of the last one, which is trusted as it is.
        for certificate in self.path[:-1]:
            if has_weak_signature(certificate):
                sentence = f"{called(certificate)} has a weak signature"
                self._note(PkixProblem.INVALID, _WEAK_HASH, sentence)

    def _judge_dates(self) -> None:
        for certificate in self.path:
            if certificate.not_valid_after_utc < self.now:
                self._note(PkixProblem.EXPIRED, 0, expired(certificate))
            if certificate.not_valid_before_utc > self.now:
                self._note(PkixProblem.NOT_YET_VALID, 0, not_yet_valid(certificate))

    def _judge_name(self) -> None:
        from cryptography import x509

        leaf = load_certificate(self.chain[0])
        if leaf is None:
            self._note(PkixProblem.INVALID, _UNSPECIFIED, "the leaf cannot be read")
            return
        try:
            extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            names = extension.value.get_values_for_type(x509.DNSName)
        except x509.ExtensionNotFound:
            names = []
        # RFC 8461 §4.2: a dNSName, never the common name (STS-APP-33, STS-APP-34).
        if not match_certificate(CertContext.MTA_STS_MX, (self.reference_id,), names, None):
            shown = ", ".join(quote(name) for name in names[:_MAX_SHOWN_NAMES]) or "none"
            rest = f" and {more} more" if (more := len(names) - _MAX_SHOWN_NAMES) > 0 else ""
            sentence = f"no dNSName of the leaf is {quote(self.reference_id)}: {shown}{rest}"
            self._note(PkixProblem.NAME, _NAME_MISMATCH, sentence)


def _oddities() -> tuple[type[Exception], ...]:
    """What libraries raise for certificates that they cannot read."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.x509 import DuplicateExtension, InvalidVersion, UnsupportedGeneralNameType
    from OpenSSL import crypto

    return (
        ValueError,
        TypeError,
        OverflowError,
        crypto.Error,
        UnsupportedAlgorithm,
        DuplicateExtension,
        InvalidVersion,
        UnsupportedGeneralNameType,
    )


def _say(problem: PkixProblem, objection: _Objection) -> str:
    from OpenSSL import crypto

    der = crypto.dump_certificate(crypto.FILETYPE_ASN1, objection.certificate)
    return describe(problem, der, objection.message)
