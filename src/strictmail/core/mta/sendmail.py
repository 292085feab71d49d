# SPDX-License-Identifier: Apache-2.0
"""The words of sendmail 8.17's FEATURE(`sts').

sendmail asks its `sts` map twice per delivery: after STARTTLS (is the certificate verified?)
and before RCPT (is the host listed, and in the certificate's names?). Its rules know exactly
one answer, `secure match=a:b servername=hostname`, with nothing behind it; any other value
counts as no policy, and TEMP makes the mail wait. Entries without a leading dot match one host.
A list of names beyond 255 bytes is cut by its rules, so that it never gets one.

What cannot be said is therefore never said as something weaker:

==========  =======================================================================
level       answer
==========  =======================================================================
NONE, MAY   NOTFOUND: sendmail uses TLS where it is offered
ENCRYPT     TEMP: no answer asks for TLS without a verified certificate
DANE        NOTFOUND: with `confDANE` sendmail holds each host to its own TLSA records;
            the level is only reached on a listener set to `dane = true`. Debian's package is
            built without DANE: leave it off there
DANE_ONLY   NOTFOUND while every MX host has TLSA records (sendmail's DANE then does the
            same), else TEMP: a host without them would be used with unverified TLS
SECURE      OK secure match=… servername=hostname, with the most preferred names that fit
DEFER       TEMP
==========  =======================================================================
"""

from __future__ import annotations

from typing import Final

from strictmail.core.decision import Decision, Level
from strictmail.core.errors import EncodingError
from strictmail.core.mta import socketmap
from strictmail.core.mta.postfix import encode_deferral, match_value
from strictmail.core.mxset import TlsaState

MAX_MATCH_BYTES: Final = 255
"""sendmail's rules cut the list of names there without a word, within a name if need be."""

_HELD: Final = (TlsaState.USABLE, TlsaState.UNUSABLE, TlsaState.ERROR)
"""States in which a sender that does DANE never uses a host in the clear."""


def encode_reply(decision: Decision) -> bytes:
    """Say a decision to sendmail 8.17.

    Args:
        decision: Already raised to the listener's default level.

    Returns:
        The complete reply, a netstring.

    Raises:
        EncodingError: It cannot be said without becoming weaker: reply TEMP.
    """
    match decision.level:
        case Level.NONE | Level.MAY | Level.DANE:
            return socketmap.notfound()
        case Level.SECURE:
            return socketmap.ok(_secure(decision))
        case Level.DANE_ONLY if _is_held_everywhere(decision):
            return socketmap.notfound()
        case Level.DEFER:
            return encode_deferral(decision)
        case _:
            raise EncodingError(f"sendmail cannot be told {decision.level}: the mail waits")


def _secure(decision: Decision) -> str:
    # Departs: RFC 8461 §4.1 allows every listed host; names beyond the limit, the least preferred
    # ones, are left out: hosts without a place on the list are refused, none is added by a cut.
    names = match_value(decision).split(":")
    while names and len(":".join(names)) > MAX_MATCH_BYTES:
        names.pop()
    if not names:
        raise EncodingError("an MX name is longer than sendmail can read")
    return f"secure match={':'.join(names)} servername=hostname"


def _is_held_everywhere(decision: Decision) -> bool:
    """Whether sendmail's own DANE holds every host that can be reached."""
    hosts = decision.mx.hosts if decision.mx is not None else ()
    reachable = [host for host in hosts if host.tlsa_state is not TlsaState.NO_ADDRESS]
    return bool(reachable) and all(host.tlsa_state in _HELD for host in reachable)
