# SPDX-License-Identifier: Apache-2.0
"""Any message is no reply, broken, or what dnspython reads out of it too.

The first octet chooses the type asked for; with its top bit set, the rest is a whole message,
else the rest is flags, three counts and what comes behind the question. Where dnspython accepts a
message, so do we, but for the declared limit on pointers; and names that we read can be asked for.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import TYPE_CHECKING, Any

import dns.edns
import dns.exception
import dns.message
import dns.name
from harness import instrumented, run

with instrumented():
    from strictmail.core.dnsvalues import Caa, Mx, Record, RecordType, Tlsa
    from strictmail.core.errors import DomainSyntaxError
    from strictmail.net.dnswire import (
        Question,
        Reply,
        WireError,
        decode_reply,
        encode_name,
        encode_question,
    )

if TYPE_CHECKING:
    from collections.abc import Iterator

_TYPES = tuple(RecordType)
_QUESTIONS = tuple(encode_question("www.example.com", rdtype) for rdtype in _TYPES)
_RAW = 0x80
_HEAD = 5

_A = _TYPES.index(RecordType.A)


def _record(rdtype: int, data: bytes, owner: bytes = b"\xc0\x0c", rdclass: int = 1) -> bytes:
    return owner + struct.pack("!HHIH", rdtype, rdclass, 300, len(data)) + data


def seeds() -> Iterator[bytes]:
    """A reply of each type, a denial, an alias, extended errors, escapes, a raw message."""
    soa = _record(
        6, b"\x02ns\xc0\x10\x01h\xc0\x10" + struct.pack("!5I", 1, 2, 3, 4, 60), b"\xc0\x10"
    )
    opt = b"\0" + struct.pack("!HHIH", 41, 1232, 0, 0)
    ede = b"\0" + struct.pack("!HHIH", 41, 1232, 0x0100_0000, 9) + b"\0\x0f\0\x05\0\x06no!"
    data = {
        RecordType.A: b"\xc0\0\x02\x01",
        RecordType.NS: b"\x02ns\xc0\x10",
        RecordType.CNAME: b"\x05other\xc0\x14",
        RecordType.SOA: b"\xc0\x10\xc0\x10" + bytes(20),
        RecordType.MX: b"\0\x0a\x02MX\xc0\x10",
        RecordType.TXT: b"\x08v=STSv1;\x06 id=1;\0",
        RecordType.AAAA: bytes.fromhex("20010db8000000000000000000000001"),
        RecordType.TLSA: b"\x03\x01\x01" + b"\xab" * 32,
        RecordType.CAA: b"\x80\x05Issueca.example",
    }
    for index, rdtype in enumerate(_TYPES):
        head = bytes([index]) + b"\x81\xa0"
        yield head + b"\x01\0\x01" + _record(rdtype, data[rdtype]) + opt
        yield head + b"\x02\0\0" + _record(5, b"\x01a\xc0\x10") + _record(rdtype, data[rdtype])
        yield head + b"\0\x01\x01" + soa + opt
    yield bytes([_A]) + b"\x81\x83\0\x01\0" + soa
    yield bytes([_A]) + b"\x81\x82\0\0\x01" + ede
    yield bytes([_A]) + b"\x83\x80\0\0\0"
    yield (
        bytes([_A]) + b"\x81\x80\x02\0\0" + _record(1, b"ab", rdclass=3) + _record(99, b"\xc0\x0c")
    )
    yield bytes([_A]) + b"\x81\x80\x01\0\0" + _record(1, b"1234", b"\x03a.b\x02 \\\xc0\x0c")
    raw = struct.pack("!6H", 0, 0x8180, 1, 0, 0, 0) + _QUESTIONS[_A].wire
    yield bytes([_RAW | _A]) + raw
    yield bytes([_RAW | _A]) + raw.replace(b"example", b"EXAMPLE")


def check(data: bytes) -> None:
    """Raise when the invariant does not hold."""
    if len(data) < 1 + _HEAD:
        return
    question = _QUESTIONS[(data[0] & 0x7F) % len(_TYPES)]
    is_raw = bool(data[0] & _RAW)
    message = data[1:] if is_raw else _build(question, data[1:])
    try:
        reply = decode_reply(message, question)
    except WireError as error:
        if "pointer" not in str(error) and _decode_dnspython(message) is not None:
            raise AssertionError(f"only we call it broken: {error}") from error
        return
    if reply is None:
        assert is_raw or message[2] & 0x78, "a reply to our question is dropped"
        return
    _check_names(reply)
    expected = _decode_dnspython(message)
    if expected is not None and not reply.truncated and expected.question:
        _compare(reply, expected, question.rdtype)


def _build(question: Question, data: bytes) -> bytes:
    flags, an, ns, ar = struct.unpack_from("!H3B", data)
    header = struct.pack("!6H", 0, flags | 0x8000, 1, an, ns, ar)
    return header + question.wire + data[_HEAD:]


def _decode_dnspython(message: bytes) -> dns.message.Message | None:
    try:
        return dns.message.from_wire(message, one_rr_per_rrset=True)
    except (dns.exception.DNSException, ValueError, NotImplementedError, struct.error):
        return None


def _check_names(reply: Reply) -> None:
    """What we say of names is printable, and can be asked for."""
    for owner, _, _, value in reply.records:
        for name in (owner, value.host if isinstance(value, Mx) else owner):
            assert name.isprintable()
            try:
                again = encode_question(name, RecordType.A)
            except DomainSyntaxError as error:
                raise AssertionError(f"{name!a} cannot be asked for") from error
            assert again.name == name


def _compare(reply: Reply, expected: dns.message.Message, rdtype: RecordType) -> None:
    assert reply.rcode == expected.rcode()
    assert reply.authentic == bool(expected.flags & 0x20)
    assert reply.authoritative == bool(expected.flags & 0x400)
    wanted = [
        (_wire(rrset.name), int(rrset.rdtype), rrset.ttl, _value(rdata))
        for rrset in expected.answer
        for rdata in rrset
        if rrset.rdclass == 1 and int(rrset.rdtype) in (rdtype, RecordType.CNAME)
    ]
    got = [
        (encode_name(owner), t, ttl, _own_value(t, value)) for owner, t, ttl, value in reply.records
    ]
    assert got == wanted
    denials = [
        (_wire(rrset.name), min(rrset.ttl, rdata.minimum if rdata.minimum < 1 << 31 else 0))
        for rrset in expected.authority
        for rdata in rrset
        if rrset.rdclass == 1 and int(rrset.rdtype) == RecordType.SOA
    ]
    soa = None if reply.soa is None else (encode_name(reply.soa[0]), reply.soa[1])
    assert soa == (denials[0] if denials else None)
    codes = [int(o.code) for o in expected.options if isinstance(o, dns.edns.EDEOption)]
    assert list(reply.extended_errors) == codes


def _wire(name: dns.name.Name) -> bytes:
    wire = name.canonicalize().to_wire()
    assert wire is not None
    return wire


def _value(rdata: Any) -> object:  # noqa: PLR0911 - a return for each type
    """The value of a record of dnspython's, in a form that can be compared."""
    match RecordType(int(rdata.rdtype)):
        case RecordType.A | RecordType.AAAA:
            return ipaddress.ip_address(rdata.address)
        case RecordType.MX:
            return rdata.preference, _wire(rdata.exchange)
        case RecordType.TXT:
            return tuple(rdata.strings)
        case RecordType.TLSA:
            return Tlsa(rdata.usage, rdata.selector, rdata.mtype, rdata.cert)
        case RecordType.SOA:
            return _wire(rdata.mname)
        case RecordType.CAA:
            return Caa(rdata.flags, rdata.tag.decode("ascii").lower(), rdata.value)
        case _:
            return _wire(rdata.target)


def _own_value(rdtype: int, value: Record) -> object:
    """The value of a record of ours, in the same form."""
    match value:
        case Mx(preference, host):
            return preference, encode_name(host)
        case str() if rdtype in (RecordType.A, RecordType.AAAA):
            return ipaddress.ip_address(value)
        case str():
            return encode_name(value)
        case _:
            return value


if __name__ == "__main__":
    run(check, seeds())
