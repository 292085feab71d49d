# SPDX-License-Identifier: Apache-2.0
r"""DNS messages on the wire (RFC 1035 §4): one question out, one reply in, and nothing else.

Pure: bytes to values and back. It knows the record types of `RecordType`; other records are
stepped over. dnspython is the oracle that this decoder is fuzzed against, and not the decoder
itself, because it keeps what nobody here asks for and takes about ten times as long.

Every loop is bounded: records by MAX_RECORDS, a name by 255 octets and MAX_POINTERS, and a
pointer has to point further back than the one before, so that no name can loop.

Names are lower case without trailing dot. An octet that is not a letter, digit or one of
`-_*/+` is written `\DDD`, as in zone files: a name from a reply is safe to log, and can be asked
for again.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from functools import lru_cache
from socket import AF_INET6, inet_ntoa, inet_ntop
from typing import TYPE_CHECKING, Final

from strictmail.core.dnsvalues import Caa, Mx, Record, RecordType, Tlsa
from strictmail.core.errors import DomainSyntaxError, SyntaxFault

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_RECORDS: Final = 1024
"""Records of one reply that are looked at. A policy or an MX set needs a dozen; the 64 KiB of a
TCP message could hold 4,000, each with a name to expand."""

MAX_POINTERS: Final = 32
"""Compression pointers in one name. An encoder needs one, or a few for suffixes of suffixes."""

MAX_NAME_OCTETS: Final = 255
"""RFC 1035 §2.3.4."""

MAX_LABEL_OCTETS: Final = 63
"""RFC 1035 §2.3.4."""

MAX_TTL_SECONDS: Final = 0x7FFF_FFFF
"""RFC 2181 §8."""

EDNS_SIZE_BYTES: Final = 1232
"""Largest UDP reply asked for: one that hardly any path fragments (DNS flag day 2020)."""

MAX_REMEMBERED_QUESTIONS: Final = 1024
"""A check asks the same of the resolver and of each name server, one soon after the other."""

RCODE_NOERROR: Final = 0
RCODE_FORMERR: Final = 1
RCODE_SERVFAIL: Final = 2
RCODE_NXDOMAIN: Final = 3
RCODE_NOTIMP: Final = 4
RCODE_REFUSED: Final = 5
RCODE_BADVERS: Final = 16

RCODE_NAMES: Final = {
    RCODE_FORMERR: "FORMERR",
    RCODE_SERVFAIL: "SERVFAIL",
    RCODE_NOTIMP: "NOTIMP",
    RCODE_REFUSED: "REFUSED",
    RCODE_BADVERS: "BADVERS",
}

_IN: Final = 1
_CNAME: Final = 5
_SOA: Final = 6
_OPT: Final = 41
_EDE_OPTION: Final = 15

_RD_AD: Final = 0x0120
_AA: Final = 0x0400
_CD: Final = 0x0010
_QR: Final = 0x8000
_OPCODE: Final = 0x7800
_TC: Final = 0x0200
_AD: Final = 0x0020
_RCODE: Final = 0x000F
_OPT_RECORD: Final = struct.pack("!BHHIH", 0, _OPT, EDNS_SIZE_BYTES, 0, 0)
_MAY_OMIT_QUESTION: Final = frozenset((RCODE_FORMERR, RCODE_SERVFAIL, RCODE_NOTIMP, RCODE_REFUSED))

_HEADER: Final = struct.Struct("!6H")
_RECORD_HEAD: Final = struct.Struct("!HHIH")
_POINTER: Final = 0xC0
_SOA_NUMBERS_OCTETS: Final = 20
_IPV4_OCTETS: Final = 4
_IPV6_OCTETS: Final = 16
_TLSA_HEAD_OCTETS: Final = 3

_PLAIN_OCTETS: Final = b"abcdefghijklmnopqrstuvwxyz0123456789-_*/+"
_PLAIN_NAME_OCTETS: Final = _PLAIN_OCTETS + b"."
_PLAIN_SET: Final = frozenset(_PLAIN_OCTETS)
_ESCAPED_OR_DOT: Final = re.compile(r"\\(?:([0-9]{3})|([^0-9]))|(\.)|([^\\.])")


class WireError(SyntaxFault):
    """A reply to our question breaks the format: it is of no use; ask another server."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What one message says.

    Attributes:
        rcode: With the upper bits that EDNS adds.
        truncated: The rest of the message did not fit: ask over TCP. Nothing else is decoded.
        authentic: The AD bit, whoever set it.
        authoritative: The AA bit: the server speaks for the zone of the name asked for.
        records: Owner, type, TTL and value of the answers of the type asked for and of CNAMEs.
        soa: Owner and negative TTL (RFC 2308 §5) of the first SOA in the authority section.
        extended_errors: The RFC 8914 codes.
    """

    rcode: int
    truncated: bool = False
    authentic: bool = False
    authoritative: bool = False
    records: list[tuple[str, int, int, Record]] = field(default_factory=list)
    soa: tuple[str, int] | None = None
    extended_errors: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: `name` as a reply would spell it, and the question section (class IN)."""

    name: str
    rdtype: RecordType
    wire: bytes


@lru_cache(maxsize=MAX_REMEMBERED_QUESTIONS)
def encode_question(name: str, rdtype: RecordType) -> Question:
    r"""The question for a name.

    Args:
        name: ASCII, any case, optional trailing dot; `\DDD` and `\x` escapes; "" or "." is the root.
        rdtype: What is asked for.

    Raises:
        DomainSyntaxError: No such name can exist: there is nothing to ask.
    """
    wire = encode_name(name)
    text, _ = _decode_name(wire, 0, {})
    return Question(text, rdtype, wire + struct.pack("!HH", rdtype, _IN))


def encode_query(
    query_id: int,
    question: Question,
    *,
    checking_disabled: bool = False,
    edns: bool = True,
    recursion: bool = True,
) -> bytes:
    """A whole query: recursion desired and AD asked for, or neither.

    Spec: RFC 6840 §5.7: AD in a query asks for AD in the reply, without signatures.
    """
    # RFC 7672 §2.1.1: the resolver's verdict is asked for with every question (DANE-01).
    flags = _RD_AD if recursion else 0
    if checking_disabled:
        flags |= _CD
    header = _HEADER.pack(query_id, flags, 1, 0, 0, 1 if edns else 0)
    return header + question.wire + (_OPT_RECORD if edns else b"")


def encode_name(name: str) -> bytes:
    """A name in wire form, lower case, uncompressed.

    Raises:
        DomainSyntaxError: An empty or too long label, too long a name, or not ASCII.
    """
    if not name.isascii():
        raise DomainSyntaxError("a name in a DNS question is ASCII", text=ascii(name))
    bare = name.lower()
    if "\\" in bare:
        labels = _unescape(bare)
    else:
        bare = bare.removesuffix(".")
        labels = bare.encode("ascii").split(b".") if bare else []
    wire = bytearray()
    for label in labels:
        if not 1 <= len(label) <= MAX_LABEL_OCTETS:
            raise DomainSyntaxError(
                f"a label has 1 to {MAX_LABEL_OCTETS} octets, not {len(label)}", text=name
            )
        wire.append(len(label))
        wire += label
    wire.append(0)
    if len(wire) > MAX_NAME_OCTETS:
        raise DomainSyntaxError(f"a name has at most {MAX_NAME_OCTETS} octets", text=name)
    return bytes(wire)


def _unescape(name: str) -> list[bytes]:
    """The labels of a name with backslashes."""
    labels = [bytearray()]
    position = 0
    while position < len(name):
        found = _ESCAPED_OR_DOT.match(name, position)
        if found is None or int(found[1] or 0) > 0xFF:  # noqa: PLR2004 - an octet
            raise DomainSyntaxError(
                "a backslash is followed by three digits up to 255, or by a character",
                text=name,
                position=position,
            )
        position = found.end()
        if found[3]:
            labels.append(bytearray())
        elif found[1]:
            labels[-1].append(int(found[1]))
        else:
            labels[-1] += (found[2] or found[4]).encode("ascii")
    if not labels[-1]:
        labels.pop()
    return [bytes(label).lower() for label in labels]


def decode_reply(message: bytes, question: Question) -> Reply | None:
    """Decode a message that carries the id of a query.

    Args:
        message: As received.
        question: What the query asked.

    Returns:
        The reply; None for a message that is no reply to this question, which the caller drops as
        if it had never come.

    Raises:
        WireError: It is a reply to this question, and broken.

    Spec: RFC 1035 §4.1; RFC 5452 §9.1: the question has to be ours.
    """
    if len(message) < _HEADER.size:
        return None
    _, flags, qd, an, ns, ar = _HEADER.unpack_from(message)
    if not flags & _QR or flags & _OPCODE:
        return None
    rcode = flags & _RCODE
    end = _HEADER.size + len(question.wire)
    if qd == 0 and rcode in _MAY_OMIT_QUESTION:
        end = _HEADER.size
    elif qd != 1 or not _same_question(message[_HEADER.size : end], question.wire):
        return None
    if flags & _TC:
        return Reply(rcode, truncated=True)
    if an + ns + ar > MAX_RECORDS:
        raise WireError(f"more than {MAX_RECORDS} records")
    try:
        return _decode_sections(message, end, (an, ns, ar), flags, question)
    except (IndexError, struct.error) as error:
        raise WireError("the message ends inside a record") from error


def _same_question(got: bytes, asked: bytes) -> bool:
    if got == asked:
        return True
    # RFC 4343 §3: a server may answer in another case. Length octets are below any letter.
    return got[:-4].lower() == asked[:-4] and got[-4:] == asked[-4:]


def _decode_sections(
    message: bytes,
    offset: int,
    counts: tuple[int, int, int],
    flags: int,
    question: Question,
) -> Reply:
    names = {_HEADER.size: question.name} if offset > _HEADER.size else {}
    records: list[tuple[str, int, int, Record]] = []
    for _ in range(counts[0]):
        owner, rtype, ttl, start, offset = _decode_head(message, offset, names)
        if rtype in (question.rdtype, _CNAME):
            value = _DECODERS[rtype](message, start, offset, names)
            records.append((owner, rtype, ttl, value))
    soa = None
    for _ in range(counts[1]):
        owner, rtype, ttl, start, offset = _decode_head(message, offset, names)
        if rtype == _SOA and soa is None:
            # RFC 2308 §5: a denial lives as long as the SOA record and its last number say.
            _decode_soa(message, start, offset, names)
            (minimum,) = struct.unpack_from("!I", message, offset - 4)
            soa = (owner, min(ttl, _limit_ttl(minimum)))
    upper_rcode, errors = _decode_additional(message, offset, counts[2])
    return Reply(
        flags & _RCODE | upper_rcode,
        authentic=bool(flags & _AD),
        authoritative=bool(flags & _AA),
        records=records,
        soa=soa,
        extended_errors=errors,
    )


def _decode_head(
    message: bytes, offset: int, names: dict[int, str]
) -> tuple[str, int, int, int, int]:
    """Owner, type (-1 in classes other than IN), TTL, and where the data starts and ends."""
    owner, offset = _decode_name(message, offset, names)
    rtype, rclass, ttl, length = _RECORD_HEAD.unpack_from(message, offset)
    start = offset + _RECORD_HEAD.size
    end = start + length
    if end > len(message):
        raise WireError("the message ends inside a record")
    return owner, rtype if rclass == _IN else -1, _limit_ttl(ttl), start, end


def _limit_ttl(seconds: int) -> int:
    # RFC 2181 §8: with the top bit set, a TTL counts as zero.
    return seconds if seconds <= MAX_TTL_SECONDS else 0


def _decode_additional(message: bytes, offset: int, count: int) -> tuple[int, tuple[int, ...]]:
    """What EDNS adds: the upper bits of the RCODE, shifted, and extended errors."""
    upper_rcode = 0
    errors: tuple[int, ...] = ()
    for _ in range(count):
        _, offset = _decode_name(message, offset, {})
        rtype, _, ttl, length = _RECORD_HEAD.unpack_from(message, offset)
        start = offset + _RECORD_HEAD.size
        offset = start + length
        if offset > len(message):
            raise WireError("the message ends inside a record")
        if rtype == _OPT:
            upper_rcode = ttl >> 24 << 4
            errors = _decode_extended_errors(message[start:offset]) if length else ()
    if offset != len(message):
        raise WireError("octets behind the last record")
    return upper_rcode, errors


def _decode_extended_errors(options: bytes) -> tuple[int, ...]:
    """The codes of RFC 8914 §2 options; their text is foreign and not kept."""
    codes = []
    offset = 0
    while offset < len(options):
        option, length = struct.unpack_from("!HH", options, offset)
        offset += 4 + length
        if offset > len(options):
            raise WireError("the message ends inside an EDNS option")
        if option == _EDE_OPTION and length >= 2:  # noqa: PLR2004 - the code's octets
            codes.append(int.from_bytes(options[offset - length : offset - length + 2], "big"))
    return tuple(codes)


def _decode_name(message: bytes, offset: int, names: dict[int, str]) -> tuple[str, int]:
    """A name and the offset behind it. `names` remembers those already seen, by offset."""
    length = message[offset]
    if length == 0:
        return "", offset + 1
    if length >= _POINTER:
        known = names.get((length & 0x3F) << 8 | message[offset + 1])
        if known is not None:
            return known, offset + 2
    labels, behind = _collect_labels(message, offset)
    text = _format_labels(labels)
    names[offset] = text
    return text, behind


def _collect_labels(message: bytes, offset: int) -> tuple[list[bytes], int]:
    labels: list[bytes] = []
    octets = 1
    behind = 0
    pointers = 0
    limit = offset
    while length := message[offset]:
        if length <= MAX_LABEL_OCTETS:
            octets += length + 1
            if octets > MAX_NAME_OCTETS:
                raise WireError(f"a name of more than {MAX_NAME_OCTETS} octets")
            label = message[offset + 1 : offset + 1 + length]
            if len(label) < length:
                raise WireError("the message ends inside a name")
            labels.append(label)
            offset += length + 1
            continue
        if length < _POINTER:
            raise WireError("a label of an unknown kind")
        target = (length & 0x3F) << 8 | message[offset + 1]
        pointers += 1
        # RFC 1035 §4.1.4: a pointer leads to a prior name; so names end.
        if target >= limit or pointers > MAX_POINTERS:
            raise WireError("a compression pointer that does not lead back")
        behind = behind or offset + 2
        offset = limit = target
    return labels, behind or offset + 1


def _format_labels(labels: list[bytes]) -> str:
    name = b".".join(labels).lower()
    if name.count(b".") == len(labels) - 1 and not name.translate(None, _PLAIN_NAME_OCTETS):
        return name.decode("ascii")
    return ".".join(
        "".join(chr(c) if c in _PLAIN_SET else f"\\{c:03}" for c in label.lower())
        for label in labels
    )


def _decode_a(message: bytes, start: int, end: int, _: dict[int, str]) -> Record:
    if end - start != _IPV4_OCTETS:
        raise WireError("an A record that does not have 4 octets")
    return inet_ntoa(message[start:end])


def _decode_aaaa(message: bytes, start: int, end: int, _: dict[int, str]) -> Record:
    if end - start != _IPV6_OCTETS:
        raise WireError("an AAAA record that does not have 16 octets")
    return inet_ntop(AF_INET6, message[start:end])


def _decode_target(message: bytes, start: int, end: int, names: dict[int, str]) -> str:
    name, behind = _decode_name(message, start, names)
    if behind != end:
        raise WireError("a name that does not fill its record")
    return name


def _decode_mx(message: bytes, start: int, end: int, names: dict[int, str]) -> Record:
    host = _decode_target(message, start + 2, end, names)
    return Mx(message[start] << 8 | message[start + 1], host)


def _decode_txt(message: bytes, start: int, end: int, _: dict[int, str]) -> Record:
    # RFC 8461 §3.1: the strings are kept apart here and joined by the grammar (STS-REC-03).
    strings = []
    while start < end:
        behind = start + 1 + message[start]
        if behind > end:
            raise WireError("a TXT record that ends inside a string")
        strings.append(message[start + 1 : behind])
        start = behind
    return tuple(strings)


def _decode_tlsa(message: bytes, start: int, end: int, _: dict[int, str]) -> Record:
    if end - start < _TLSA_HEAD_OCTETS:
        raise WireError("a TLSA record of less than 3 octets")
    usage, selector, mtype = message[start : start + _TLSA_HEAD_OCTETS]
    return Tlsa(usage, selector, mtype, message[start + _TLSA_HEAD_OCTETS : end])


def _decode_caa(message: bytes, start: int, end: int, _: dict[int, str]) -> Record:
    behind = start + 2 + message[start + 1]
    tag = message[start + 2 : behind]
    # RFC 8659 §4.1: flags, then a tag of at least one letter or digit, then the value.
    if behind > end or not tag.isalnum():
        raise WireError("a CAA record without a tag of letters and digits")
    return Caa(message[start], tag.decode("ascii").lower(), message[behind:end])


def _decode_soa(message: bytes, start: int, end: int, names: dict[int, str]) -> Record:
    """The primary server's name; the numbers are the business of whoever needs them."""
    primary, offset = _decode_name(message, start, names)
    _, offset = _decode_name(message, offset, names)
    if end - offset != _SOA_NUMBERS_OCTETS:
        raise WireError("an SOA record without its five numbers")
    return primary


_DECODERS: Final[dict[int, Callable[[bytes, int, int, dict[int, str]], Record]]] = {
    RecordType.A: _decode_a,
    RecordType.AAAA: _decode_aaaa,
    RecordType.CNAME: _decode_target,
    RecordType.NS: _decode_target,
    RecordType.MX: _decode_mx,
    RecordType.TXT: _decode_txt,
    RecordType.TLSA: _decode_tlsa,
    RecordType.SOA: _decode_soa,
    RecordType.CAA: _decode_caa,
}
