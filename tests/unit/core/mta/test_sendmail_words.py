# SPDX-License-Identifier: Apache-2.0
"""What sendmail is told: one sentence, or nothing, or to wait."""

from __future__ import annotations

import pytest

from strictmail.core.decision import Decision, Level
from strictmail.core.errors import EncodingError
from strictmail.core.mta.netstring import Decoder
from strictmail.core.mta.sendmail import MAX_MATCH_BYTES, encode_reply
from strictmail.core.mxset import MxHost, MxSet, MxStatus, TlsaState


def mx_set(*states: TlsaState) -> MxSet:
    hosts = tuple(MxHost(f"mx{n}.test", 10, tlsa_state=state) for n, state in enumerate(states))
    return MxSet(MxStatus.FOUND, secure=True, hosts=hosts)


def test_secure_is_exactly_the_sentence_that_sendmail_knows() -> None:
    decision = Decision("a.test", Level.SECURE, "enforce", allowed_mx=("mx1.test", "mx2.test"))
    value = b"OK secure match=mx1.test:mx2.test servername=hostname"
    assert encode_reply(decision) == b"%d:%b," % (len(value), value)


@pytest.mark.parametrize("level", [Level.NONE, Level.MAY, Level.DANE])
def test_what_sendmail_does_by_itself_needs_no_answer(level: Level) -> None:
    assert encode_reply(Decision("a.test", level, "override")) == b"9:NOTFOUND ,"


@pytest.mark.parametrize(
    "mx",
    [
        pytest.param(mx_set(TlsaState.USABLE, TlsaState.USABLE), id="every host is held"),
        pytest.param(mx_set(TlsaState.USABLE, TlsaState.ERROR), id="a failed lookup skips"),
        pytest.param(mx_set(TlsaState.USABLE, TlsaState.NO_ADDRESS), id="unreachable anyway"),
    ],
)
def test_dane_only_where_sendmails_dane_holds_every_host(mx: MxSet) -> None:
    assert encode_reply(Decision("a.test", Level.DANE_ONLY, "dane", mx=mx)) == b"9:NOTFOUND ,"


@pytest.mark.parametrize(
    "decision",
    [
        pytest.param(Decision("a.test", Level.ENCRYPT, "override"), id="no word for it"),
        pytest.param(
            Decision(
                "a.test", Level.DANE_ONLY, "dane", mx=mx_set(TlsaState.USABLE, TlsaState.NONE)
            ),
            id="one host would get clear text",
        ),
        pytest.param(Decision("a.test", Level.DANE_ONLY, "override"), id="hosts unknown"),
        pytest.param(
            Decision("a.test", Level.DANE_ONLY, "dane", mx=mx_set(TlsaState.NO_ADDRESS)),
            id="no host",
        ),
        pytest.param(Decision("a.test", Level.SECURE, "enforce"), id="no name: no list check"),
        pytest.param(
            Decision("a.test", Level.SECURE, "enforce", allowed_mx=(".b.test",)),
            id="a leading dot is a wildcard there",
        ),
    ],
)
def test_never_weaker(decision: Decision) -> None:
    with pytest.raises(EncodingError):
        encode_reply(decision)


def test_names_beyond_what_sendmail_reads_are_left_out_whole() -> None:
    # Measured with 8.17.1: 255 bytes pass, with 256 the last name lost its last letter.
    names = tuple(f"mx{n:02}.long-name.test" for n in range(20))
    decision = Decision("a.test", Level.SECURE, "enforce", allowed_mx=names)
    (payload,) = Decoder().feed(encode_reply(decision))
    match = payload.decode().split()[2].removeprefix("match=")
    assert match.split(":") == list(names[:12])
    assert len(match) <= MAX_MATCH_BYTES < len(":".join(names[:13]))


def test_a_list_that_just_fits_is_whole() -> None:
    names = ("a" * 60 + ".test",) * 3 + ("b" * 52 + ".test",)
    assert len(":".join(names)) == MAX_MATCH_BYTES
    decision = Decision("a.test", Level.SECURE, "enforce", allowed_mx=names)
    assert ":".join(names).encode() in encode_reply(decision)


def test_a_deferral() -> None:
    assert b":TEMP enforce-no-mx: " in encode_reply(
        Decision("a.test", Level.DEFER, "enforce-no-mx")
    )
