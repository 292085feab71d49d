# SPDX-License-Identifier: Apache-2.0
"""DNS messages: what our decoder reads out of what dnspython wrote, and what it refuses."""

from __future__ import annotations

import struct

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from strictmail.core.dnsvalues import Caa, Mx, Record, RecordType, Tlsa
from strictmail.core.errors import DomainSyntaxError
from strictmail.net.dnswire import (
    MAX_RECORDS,
    Reply,
    WireError,
    decode_reply,
    encode_name,
    encode_query,
    encode_question,
)

NAME = "www.example.com"
LONG = ".".join(["a" * 49] * 5)


def respond(
    rdtype: RecordType, *rrsets: dns.rrset.RRset, authority: tuple[dns.rrset.RRset, ...] = ()
) -> dns.message.Message:
    query = dns.message.from_wire(encode_query(7, encode_question(NAME, rdtype)))
    reply = dns.message.make_response(query)
    reply.answer.extend(rrsets)
    reply.authority.extend(authority)
    return reply


def rrset(rdtype: str, *texts: str, name: str = NAME, ttl: int = 300) -> dns.rrset.RRset:
    return dns.rrset.from_text_list(f"{name}.", ttl, "IN", rdtype, list(texts))


def decode(reply: dns.message.Message | bytes, rdtype: RecordType) -> Reply:
    wire = reply if isinstance(reply, bytes) else reply.to_wire()
    decoded = decode_reply(wire, encode_question(NAME, rdtype))
    assert decoded is not None
    return decoded


@pytest.mark.parametrize(
    ("rdtype", "texts", "records"),
    [
        (RecordType.A, ["192.0.2.1", "192.0.2.2"], ["192.0.2.1", "192.0.2.2"]),
        (RecordType.AAAA, ["2001:DB8::1"], ["2001:db8::1"]),
        (RecordType.CNAME, ["Target.Example.ORG."], ["target.example.org"]),
        (RecordType.NS, ["ns.example.com."], ["ns.example.com"]),
        (RecordType.MX, ["10 MX.example.com.", "0 ."], [Mx(10, "mx.example.com"), Mx(0, "")]),
        (RecordType.TXT, ['"v=STS" "v1; id=1;" ""'], [(b"v=STS", b"v1; id=1;", b"")]),
        (RecordType.TXT, [r'"\000\255\""'], [(b'\x00\xff"',)]),
        (RecordType.TLSA, [f"3 1 1 {'AB' * 32}"], [Tlsa(3, 1, 1, b"\xab" * 32)]),
        (RecordType.TLSA, ["255 255 255 00"], [Tlsa(255, 255, 255, b"\x00")]),
        (RecordType.CAA, ['0 issue "ca.example"'], [Caa(0, "issue", b"ca.example")]),
        (RecordType.CAA, ['128 IssueWild ";"'], [Caa(128, "issuewild", b";")]),
        (RecordType.CAA, [r'0 x "\255"'], [Caa(0, "x", b"\xff")]),
        (RecordType.SOA, ["ns.example.com. h.example.com. 1 2 3 4 5"], ["ns.example.com"]),
    ],
)
@pytest.mark.req("STS-REC-03", "STS-APP-18")
def test_records(rdtype: RecordType, texts: list[str], records: list[Record]) -> None:
    reply = decode(respond(rdtype, rrset(rdtype.name, *texts)), rdtype)
    # dnspython shuffles what it writes.
    assert sorted(reply.records, key=repr) == sorted(
        ((NAME, rdtype, 300, record) for record in records), key=repr
    )


def test_query_is_one_that_dnspython_reads() -> None:
    query = dns.message.from_wire(encode_query(0xBEEF, encode_question(NAME, RecordType.TLSA)))
    assert query.id == 0xBEEF
    assert query.question[0].to_text() == "www.example.com. IN TLSA"
    assert query.flags == dns.flags.RD | dns.flags.AD  # AD asked for, no signatures
    assert (query.edns, query.payload, query.ednsflags) == (0, 1232, 0)


def test_query_for_an_authority_desires_no_recursion() -> None:
    wire = encode_query(1, encode_question(NAME, RecordType.MX), recursion=False)
    query = dns.message.from_wire(wire)
    assert query.flags == 0
    assert (query.edns, query.payload) == (0, 1232)


def test_authority_is_told_by_its_flag() -> None:
    reply = respond(RecordType.MX)
    assert not decode(reply, RecordType.MX).authoritative
    reply.flags |= dns.flags.AA
    assert decode(reply, RecordType.MX).authoritative


def test_query_with_checking_disabled_and_without_edns() -> None:
    wire = encode_query(1, encode_question(NAME, RecordType.A), checking_disabled=True, edns=False)
    query = dns.message.from_wire(wire)
    assert query.flags == dns.flags.RD | dns.flags.AD | dns.flags.CD
    assert query.edns == -1


@pytest.mark.parametrize(
    ("name", "wire"),
    [
        ("", b"\0"),
        (".", b"\0"),
        ("Example.COM.", b"\x07example\x03com\0"),
        (r"a\.b.c", b"\x03a.b\x01c\0"),
        (r"a\032b\\.c.", b"\x04a b\\\x01c\0"),
        ("_25._tcp.mx", b"\x03_25\x04_tcp\x02mx\0"),
    ],
)
def test_encode_name(name: str, wire: bytes) -> None:
    assert encode_name(name) == wire


@pytest.mark.parametrize(
    "name",
    [
        "a..b",
        ".a",
        "a..",
        "a" * 64,
        f"{LONG}.abcdef",
        "bücher.example",
        "a\\",
        "a\\999",
        "a\\1",
    ],
    ids=["empty", "first", "last", "label", "name", "u-label", "alone", "octet", "digits"],
)
def test_no_such_name(name: str) -> None:
    with pytest.raises(DomainSyntaxError):
        encode_question(name, RecordType.A)


def test_longest_name() -> None:
    # 253 characters are 255 octets on the wire.
    assert len(encode_name(f"{LONG}.abc")) == 255


@pytest.mark.parametrize(
    "label", [" ", '"', "\\", ".", "\n", "\x1b", "\x7f", "ü", "$", "(", ";", "@", "\0"]
)
def test_odd_octets_are_escaped_and_can_be_asked_for(label: str) -> None:
    octets = b"a" + label.encode("latin-1") + b"b"
    wire = bytes([len(octets)]) + octets + b"\x03com\0"
    escaped = f"a\\{ord(label):03}b.com"
    question = encode_question(escaped, RecordType.A)
    assert question.wire[:-4] == wire
    assert question.name == escaped
    header = struct.pack("!6H", 1, 0x8180, 1, 1, 0, 0)
    record = wire + struct.pack("!HHIH", 5, 1, 60, len(wire)) + wire
    reply = decode_reply(header + question.wire + record, question)
    assert reply is not None
    assert reply.records == [(escaped, 5, 60, escaped)]
    assert escaped.isprintable()


def test_flags_and_extended_errors() -> None:
    reply = respond(RecordType.A)
    reply.flags |= dns.flags.AD
    reply.set_rcode(dns.rcode.SERVFAIL)
    reply.use_edns(
        0,
        options=[
            dns.edns.EDEOption(dns.edns.EDECode(6), "text that nobody keeps"),
            dns.edns.EDEOption(dns.edns.EDECode(22)),
        ],
    )
    decoded = decode(reply, RecordType.A)
    assert (decoded.rcode, decoded.authentic, decoded.extended_errors) == (2, True, (6, 22))


def test_extended_rcode() -> None:
    reply = respond(RecordType.A)
    reply.set_rcode(dns.rcode.BADVERS)
    assert decode(reply, RecordType.A).rcode == 16


@pytest.mark.parametrize(("ttl", "minimum", "kept"), [(60, 3600, 60), (3600, 60, 60), (0, 9, 0)])
@pytest.mark.req("STS-REC-32")
def test_negative_ttl_is_the_lower_of_two(ttl: int, minimum: int, kept: int) -> None:
    soa = rrset("SOA", f"ns.example. h.example. 1 2 3 4 {minimum}", name="example.com", ttl=ttl)
    reply = decode(respond(RecordType.A, authority=(soa,)), RecordType.A)
    assert reply.soa == ("example.com", kept)


def test_ttl_with_the_top_bit_counts_as_zero() -> None:
    question = encode_question(NAME, RecordType.A)
    header = struct.pack("!6H", 1, 0x8180, 1, 1, 0, 0)
    record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 0x8000_0001, 4) + b"\x01\x02\x03\x04"
    reply = decode_reply(header + question.wire + record, question)
    assert reply is not None
    assert reply.records == [(NAME, 1, 0, "1.2.3.4")]


def test_truncated_reply_is_not_read_any_further() -> None:
    reply = respond(RecordType.A)
    reply.flags |= dns.flags.TC
    assert decode(reply.to_wire() + b"cut off he", RecordType.A).truncated


def test_question_may_come_back_in_another_case() -> None:
    wire = respond(RecordType.A, rrset("A", "192.0.2.1")).to_wire()
    assert decode(wire.replace(b"example", b"eXaMPLE"), RecordType.A).records[0][0] == NAME


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w.replace(b"example", b"exbmple"),
        lambda w: w[:2] + b"\x01\x20" + w[4:],
        lambda w: w[:2] + b"\xa9\x80" + w[4:],
        lambda w: w[:4] + b"\0\x02" + w[6:],
        lambda w: w[:4] + b"\0\0" + w[6:],
        lambda w: w[:29] + b"\0\x1c" + w[31:],
        lambda w: w[:31] + b"\0\x03" + w[33:],
        lambda w: w[:11],
        lambda _: b"",
    ],
    ids=[
        "other name",
        "a query",
        "a notify",
        "two questions",
        "no question",
        "other type",
        "other class",
        "half a header",
        "empty",
    ],
)
def test_what_is_no_reply_to_our_question(change: object) -> None:
    wire = respond(RecordType.A).to_wire()
    assert callable(change)
    assert decode_reply(change(wire), encode_question(NAME, RecordType.A)) is None


@pytest.mark.parametrize("rcode", [1, 2, 4, 5])
def test_an_error_may_come_without_the_question(rcode: int) -> None:
    header = struct.pack("!6H", 1, 0x8180 | rcode, 0, 0, 0, 0)
    reply = decode_reply(header, encode_question(NAME, RecordType.A))
    assert reply == Reply(rcode)


def crafted(record: bytes, rdtype: RecordType = RecordType.A, count: int = 1) -> bytes:
    """A reply with hand-made answer records."""
    question = encode_question(NAME, rdtype)
    return struct.pack("!6H", 1, 0x8180, 1, count, 0, 0) + question.wire + record


def record(rdtype: int, data: bytes, owner: bytes = b"\xc0\x0c") -> bytes:
    return owner + struct.pack("!HHIH", rdtype, 1, 60, len(data)) + data


@pytest.mark.parametrize(
    ("rdtype", "wire"),
    [
        pytest.param(1, record(1, b"\1\2\3"), id="A of three octets"),
        pytest.param(28, record(28, b"\1\2\3\4"), id="AAAA of four octets"),
        pytest.param(16, record(16, b"\5abc"), id="TXT ends inside a string"),
        pytest.param(52, record(52, b"\3\1"), id="TLSA without its numbers"),
        pytest.param(257, record(257, b""), id="CAA without anything"),
        pytest.param(257, record(257, b"\0\0value"), id="CAA without a tag"),
        pytest.param(257, record(257, b"\0\x06issue"), id="CAA that ends inside its tag"),
        pytest.param(257, record(257, b"\0\x05is-ueca"), id="CAA with a hyphen in its tag"),
        pytest.param(15, record(15, b"\0"), id="MX without preference"),
        pytest.param(15, record(15, b"\0\1"), id="MX without host"),
        pytest.param(15, record(15, b"\0\1\2mx\0x"), id="MX with more"),
        pytest.param(5, record(5, b""), id="CNAME without target"),
        pytest.param(6, record(6, b"\0\0\0"), id="SOA without numbers"),
        pytest.param(1, record(1, b"\1\2\3\4", b"\xc0\x21"), id="pointer to itself"),
        pytest.param(1, record(1, b"\1\2\3\4", b"\xc0\xff"), id="pointer ahead"),
        pytest.param(1, record(1, b"\1\2\3\4", b"\xc0"), id="half a pointer"),
        pytest.param(1, record(1, b"\1\2\3\4", b"\x40\0"), id="unknown label kind"),
        pytest.param(1, record(1, b"\1\2\3\4") + b"\0", id="octets behind"),
        pytest.param(1, record(1, b"\1\2\3\4")[:-1], id="ends inside a record"),
        pytest.param(1, b"\xc0\x0c\0\1", id="ends inside a record's head"),
        pytest.param(1, b"\x09abc", id="ends inside a name"),
        pytest.param(1, b"", id="no record where one is announced"),
    ],
)
@pytest.mark.req("DANE-04")
def test_broken_replies(rdtype: int, wire: bytes) -> None:
    with pytest.raises(WireError):
        decode_reply(crafted(wire, RecordType(rdtype)), encode_question(NAME, RecordType(rdtype)))


def test_a_name_of_more_than_255_octets() -> None:
    owner = b"".join(b"\x3f" + b"a" * 63 for _ in range(4)) + b"\0"
    with pytest.raises(WireError, match="255"):
        decode(crafted(record(1, b"\1\2\3\4", owner)), RecordType.A)


@pytest.mark.req("STS-REC-33")
def test_number_of_records_is_bounded() -> None:
    wire = crafted(record(1, b"\1\2\3\4") * (MAX_RECORDS + 1), count=MAX_RECORDS + 1)
    with pytest.raises(WireError, match="records"):
        decode(wire, RecordType.A)
    fits = crafted(record(1, b"\1\2\3\4") * MAX_RECORDS, count=MAX_RECORDS)
    assert len(decode(fits, RecordType.A).records) == MAX_RECORDS


@pytest.mark.req("STS-REC-33")
@pytest.mark.parametrize(("length", "fits"), [(1, True), (31, True), (32, False), (4000, False)])
def test_chains_of_pointers_are_bounded(length: int, *, fits: bool) -> None:
    # A chain hidden in a record that is stepped over: each pointer leads to the one before it.
    data_offset = 12 + len(encode_question(NAME, RecordType.A).wire) + 12
    targets = [12, *(data_offset + 2 * n for n in range(length - 1))]
    hidden = b"".join(struct.pack("!H", 0xC000 | target) for target in targets)
    last = struct.pack("!H", 0xC000 | (data_offset + 2 * (length - 1)))
    wire = crafted(record(99, hidden) + record(1, b"\1\2\3\4", last), count=2)
    if fits:
        assert decode(wire, RecordType.A).records == [(NAME, 1, 60, "1.2.3.4")]
    else:
        with pytest.raises(WireError, match="pointer"):
            decode(wire, RecordType.A)


@pytest.mark.req("DANE-44", "DANE-50")
def test_a_malformed_tlsa_record_does_not_spoil_the_others() -> None:
    # Whether a record is usable is not the decoder's business; dnspython refuses the whole reply.
    wire = crafted(record(52, b"\3\1\1short") + record(52, b"\2\0\0"), RecordType.TLSA, count=2)
    values = [value for *_, value in decode(wire, RecordType.TLSA).records]
    assert values == [Tlsa(3, 1, 1, b"short"), Tlsa(2, 0, 0, b"")]


def test_other_types_and_classes_are_stepped_over() -> None:
    chaos = b"\xc0\x0c" + struct.pack("!HHIH", 1, 3, 60, 1) + b"?"
    signature = record(46, b"whatever")
    wire = crafted(chaos + signature + record(1, b"\1\2\3\4"), count=3)
    assert decode(wire, RecordType.A).records == [(NAME, 1, 60, "1.2.3.4")]
