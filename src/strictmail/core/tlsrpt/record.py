# SPDX-License-Identifier: Apache-2.0
"""The `_smtp._tls` TXT record (RFC 8460 §3): which one counts, and where reports may go.

Order of steps: the strings of each record are joined; records that do not start with the version
are dropped; exactly one must be left; that one must keep to the grammar. Then each URI of its
`rua` fields is judged alone:

==========================================  =====================================================
fault                                       what becomes of it
==========================================  =====================================================
no record, several, broken grammar          `RecordSyntaxError`: the domain takes no reports
no `rua`, an empty one, an empty element    the same: nobody can say what was meant
a URI of another scheme, or a bad one       that URI is in `unusable` with its reason
every URI unusable                          a record without destinations
==========================================  =====================================================

Nothing here is sent, resolved or connected to: whether a destination takes reports, others see.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from strictmail.core.errors import RecordSyntaxError
from strictmail.core.names import is_ldh_domain
from strictmail.core.tagrecord import WSP, TagField, join_strings, parse_fields, quote

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

VERSION: Final = "v=TLSRPTv1"

MAX_ADDRESS_CHARACTERS: Final = 254
"""Of a mailbox: RFC 5321 §4.5.3 has 256 octets for a path, its angle brackets included."""

MAX_LOCAL_CHARACTERS: Final = 64
"""Of the part before `@`: RFC 5321 §4.5.3."""

MAX_PORT: Final = 65_535

MAX_NEAR_MISSES: Final = 3
"""How many records that almost count a message mentions."""

_PREFIX: Final = b"v=TLSRPTv1;"
_SPACED_PREFIX: Final = re.compile(rb"v=TLSRPTv1[ \t]+;")
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_NO_URI_CHARACTER: Final = re.compile(r"[^A-Za-z0-9._~:/?#\[\]@$&'()*+=%-]")
"""RFC 3986 §2 without `!`, `,` and `;`, which RFC 8460 §3 wants percent-encoded."""
_PERCENT: Final = re.compile(r"%([0-9A-Fa-f]{2})?")
_HARMFUL_IN_LOCAL: Final = frozenset(' "<>\\@')
"""What would need a quoted string in an SMTP command, and has bitten programs before."""

_SPACED_WARNING: Final = (
    "white space between `v=TLSRPTv1` and the first `;`: other senders ignore such a record; "
    "write `v=TLSRPTv1; rua=...` (RFC 8460 section 3)"
)
_SEVERAL_RUA_WARNING: Final = (
    "several `rua` fields: some senders read only the first; put all URIs into one, "
    "with commas between them"
)
_HEADERS_WARNING: Final = (
    "header fields behind the `?` of a `mailto` URI are ignored: senders set their own"
)


@dataclass(frozen=True, slots=True)
class RuaUri:
    """A destination that reports can be sent to.

    Attributes:
        text: As published, without the blanks around it.
        scheme: `mailto` or `https`.
        address: With `mailto`, the mailbox, percent-encoding undone; else "".
        position: Offset of `text` in the record.
    """

    text: str
    scheme: str
    address: str = ""
    position: int = 0

    @property
    def destination(self) -> str:
        """What tells two destinations apart: the mailbox, or the URI as published."""
        # RFC 8460 §3: an `https` URI is used as it stands, nothing decoded (RPT-REC-16).
        return f"mailto:{self.address}" if self.address else self.text


@dataclass(frozen=True, slots=True)
class UnusableUri:
    """A URI that no report goes to.

    Attributes:
        text: As published.
        position: Offset in the record of the character at fault.
        reason: A sentence; foreign text in it is escaped.
    """

    text: str
    position: int
    reason: str


@dataclass(frozen=True, slots=True)
class TlsrptRecord:
    """A TLSRPT record that keeps to the grammar.

    Attributes:
        rua: Usable destinations, in order, each once; may be empty.
        warnings: Sentences on what was tolerated.
        unusable: The other URIs.
        text: The record, octets as Latin-1: positions count in it.
    """

    rua: tuple[RuaUri, ...]
    warnings: tuple[str, ...] = ()
    unusable: tuple[UnusableUri, ...] = ()
    text: str = ""


class _UriError(Exception):
    """Why a URI is not used; `at` is the offset in the URI."""

    def __init__(self, reason: str, at: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.at = at


def tlsrpt_name(policy_domain: str) -> str:
    """The name that the record stands at; the domain in A-labels.

    Spec: RFC 8460 §3; no parent is asked instead.
    """
    # RFC 8460 §3: two labels, directly under the domain (RPT-REC-01, RPT-REC-28).
    return f"_smtp._tls.{policy_domain}"


def select_tlsrpt(rrset: Sequence[Sequence[bytes]]) -> TlsrptRecord:
    """Find the one record of a TXT RRset, and its destinations.

    Args:
        rrset: Each record as its character-strings; an empty RRset is fine. Their order says
            nothing.

    Returns:
        The record; without usable destinations `rua` is empty.

    Raises:
        RecordSyntaxError: The domain takes no reports. Its `reason_code` is `absent`, `several`
            or `syntax`; `position` counts in the whole record.

    Spec: RFC 8460 §3.
    """
    # RFC 8460 §3: strings are joined with nothing between them (RPT-REC-03).
    texts = [join_strings(strings) for strings in rrset]
    # RFC 8460 §3: records that do not start with the version are dropped (RPT-REC-04).
    candidates = [text for text in texts if text.startswith(_PREFIX)]
    warnings: tuple[str, ...] = ()
    if not candidates:
        # Spec-silent: as with MTA-STS (C-17), a blank before the first `;` is in the grammar and
        # against the rule for dropping: such a record counts if no other is there.
        candidates = [text for text in texts if _SPACED_PREFIX.match(text)]
        warnings = (_SPACED_WARNING,)
    if not candidates:
        raise RecordSyntaxError(_say_absent(texts), reason_code="absent")
    if len(candidates) > 1:
        # RFC 8460 §3: two are as good as none (RPT-REC-05).
        raise RecordSyntaxError(
            f"{len(candidates)} records start with `{VERSION}`; exactly one may: remove the others",
            reason_code="several",
            text=candidates[0].decode("latin-1"),
        )
    return _read_record(candidates[0].decode("latin-1"), warnings)


def _read_record(text: str, warnings: tuple[str, ...]) -> TlsrptRecord:
    # RFC 8460 §3: a record that breaks the grammar takes no reports: nothing is guessed from it
    # (RPT-REC-08). The version is exact (RPT-REC-06), the order of fields is free and unknown
    # ones are passed over (RPT-REC-10); a raw `;` ends a field, in a URI as well (RPT-REC-21).
    fields = parse_fields(text, VERSION, known=("rua",))
    # RFC 8460 §3: the name is case-sensitive, without blanks around `=` (RPT-REC-09).
    found = [field for field in fields if field.name == "rua"]
    if not found:
        # RFC 8460 §3: there is at least one (RPT-REC-07).
        raise RecordSyntaxError(_say_no_rua(fields), text=text, position=len(text))
    if len(found) > 1:
        # Spec-silent: the grammar allows several: all of them count (RPT-REC-22, C-11).
        warnings = (*warnings, _SEVERAL_RUA_WARNING)
    usable: dict[str, RuaUri] = {}
    unusable: list[UnusableUri] = []
    for field in found:
        for element, position in _split(field, text):
            try:
                uri = _parse_uri(element, position)
            except _UriError as error:
                unusable.append(UnusableUri(element, position + error.at, error.reason))
            else:
                usable.setdefault(uri.destination, uri)
    if any(uri.scheme == "mailto" and "?" in uri.text for uri in usable.values()):
        warnings = (*warnings, _HEADERS_WARNING)
    return TlsrptRecord(tuple(usable.values()), warnings, tuple(unusable), text)


def _split(field: TagField, text: str) -> Iterator[tuple[str, int]]:
    """Each URI of a field, with its offset in the record."""
    position = field.position + len("rua=")
    # RFC 8460 §3: split at commas as published, before anything is decoded (RPT-REC-15).
    for part in field.value.split(","):
        # RFC 8460 §3: blanks and tabs around a comma say nothing (RPT-REC-11).
        element = part.strip(WSP)
        start = position + len(part) - len(part.lstrip(WSP))
        if not element:
            # RFC 8460 §3: no URI is empty (RPT-REC-23).
            raise RecordSyntaxError(
                "an empty `rua`: put a URI there, such as `mailto:tls-reports@example.com`"
                if field.value.strip(WSP) == ""
                else "an empty place in the list of `rua`: remove one `,`",
                text=text,
                position=start,
            )
        yield element, start
        position += len(part) + 1


def _parse_uri(element: str, position: int) -> RuaUri:
    scheme = _SCHEME.match(element)
    if scheme is None:
        hint = f": write `mailto:` before {quote(element)}" if "@" in element else ""
        raise _UriError(f"no URI: a scheme is missing{hint}")
    # RFC 3986 §3.1: schemes are compared in any case (RPT-REC-13).
    name = scheme[1].lower()
    if name not in ("mailto", "https"):
        # RFC 8460 §3: two schemes are known; another one drops its URI, never the record, and
        # `http` is not taken for `https` (RPT-REC-12, RPT-REC-14).
        hint = ": reports go over `https` only" if name == "http" else ""
        raise _UriError(f"the scheme {quote(scheme[1])} is neither `mailto` nor `https`{hint}")
    _check_characters(element)
    if name == "mailto":
        return RuaUri(element, name, _mailbox(element, scheme.end()), position)
    _check_https(element, scheme.end())
    return RuaUri(element, name, "", position)


def _check_characters(element: str) -> None:
    bad = _NO_URI_CHARACTER.search(element)
    if bad is not None and bad[0] == "!":
        # RFC 8460 §3: `!` is percent-encoded; what looks like the size limit of DMARC is none,
        # and mail never goes to an address with it (RPT-REC-18).
        raise _UriError("`!` stands in no URI here: TLSRPT knows no size limit", bad.start())
    if bad is not None:
        raise _UriError(f"{quote(bad[0])} stands in no URI", bad.start())
    for percent in _PERCENT.finditer(element):
        if percent[1] is None:
            raise _UriError("behind `%` come two hexadecimal digits", percent.start())


def _mailbox(element: str, start: int) -> str:
    """The address of a `mailto` URI, decoded (RFC 6068 §2)."""
    if "#" in element:
        raise _UriError("a `mailto` URI has no fragment", element.index("#"))
    # RFC 6068 §4: header fields are unsafe, above all `cc` and `bcc`: none is used (RPT-REC-19).
    encoded = element[start:].partition("?")[0]
    # RFC 8460 §3: now percent-encoding is undone (RPT-REC-15).
    address = _PERCENT.sub(lambda found: chr(int(found[1], 16)), encoded)
    if not (address.isascii() and address.isprintable()):
        # RFC 5321 §4.1.2: no control characters (RPT-REC-20, SEC-25). Spec-silent: a mailbox
        # beyond ASCII would need SMTPUTF8 on the whole way: it is not used.
        raise _UriError(f"the address {quote(address)} is not printable ASCII", start)
    local, at, domain = address.rpartition("@")
    if not at or not local or not is_ldh_domain(domain):
        # RFC 5321 §4.1.2: a mailbox has a domain (RPT-REC-20). Spec-silent: an address literal
        # names none.
        raise _UriError(f"{quote(address)} is no mailbox of the form `name@domain`", start)
    if not _HARMFUL_IN_LOCAL.isdisjoint(local):
        raise _UriError(f"the name before the `@` of {quote(address)} needs quoting", start)
    if len(local) > MAX_LOCAL_CHARACTERS or len(address) > MAX_ADDRESS_CHARACTERS:
        raise _UriError(f"the address {quote(address)} is too long", start)
    return address


def _check_https(element: str, start: int) -> None:
    if not element.startswith("//", start):
        raise _UriError("behind `https:` comes `//` and a host", start)
    # BCP: data for an HTTP client, never for a shell; what could mislead one is refused
    # (RPT-REC-32, SEC-25).
    if "#" in element:
        raise _UriError("a fragment says nothing to a server", element.index("#"))
    begin = start + len("//")
    authority = re.split(r"[/?]", element[begin:], maxsplit=1)[0]
    if "@" in authority:
        raise _UriError("no user name or password may stand before the host", begin)
    host, colon, port = authority.partition(":")
    if not is_ldh_domain(host) or host.rpartition(".")[2].isdigit():
        # Spec-silent: an address is no name that a certificate is asked for.
        raise _UriError(f"{quote(authority)} does not begin with a host name", begin)
    if colon and not (port.isdigit() and len(port) <= len(str(MAX_PORT)) and int(port) <= MAX_PORT):
        raise _UriError(f"{quote(port)} is no port", begin + len(host) + 1)


def _say_no_rua(fields: Sequence[TagField]) -> str:
    for field in fields:
        if field.name.lower() == "rua":
            return f"no `rua` field: names are case-sensitive, write `rua=` for `{field.name}=`"
    return "no `rua` field: add `rua=` and a URI, such as `mailto:tls-reports@example.com`"


def _say_absent(texts: Sequence[bytes]) -> str:
    if not texts:
        return "no TXT record"
    hints = [hint for hint in map(_say_near_miss, texts) if hint][:MAX_NEAR_MISSES]
    return f"no TXT record starts with `{VERSION};`" + "".join(f"; {hint}" for hint in hints)


def is_near_miss(text: bytes) -> bool:
    """Whether a record that does not count looks like an attempt at one."""
    return bool(_say_near_miss(text))


def _say_near_miss(text: bytes) -> str:
    """What an owner probably did, if a record looks like an attempt."""
    head = text[:40].decode("latin-1")
    shown = quote(head)
    bare = head.lstrip(" \t\"'\xef\xbb\xbf")
    squeezed = bare.lower().replace(" ", "").replace("\t", "")
    if not squeezed.startswith("v=tlsrpt"):
        return f"in {shown} the version does not come first" if "v=tlsrpt" in squeezed else ""
    if bare != head:
        return f"{shown} starts with white space, a quote mark or a byte order mark: remove it"
    if not bare.startswith(VERSION):
        return f"{shown}: the version is written `{VERSION};`, in exactly these letters"
    return f"{shown}: behind `{VERSION}` comes `;`"
