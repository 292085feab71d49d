# SPDX-License-Identifier: Apache-2.0
"""The sessions that the report benchmarks tell of: datagrams as Postfix sends them, and their order.

Six domains in ten have an MTA-STS policy, the others TLSA records; one session in ten fails. A
domain has two MX hosts and its MTA two addresses, so that its failures come in four kinds. Every
domain is as frequent as any other: the least that can be gained from counting equal datagrams.
"""

from __future__ import annotations

import json
import random
import struct
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

STS_TENTHS = 6
FAILING_SHARE = 0.1
FAILURE_KINDS = 4
KINDS = 1 + FAILURE_KINDS
SEED = 8460
OPERATORS = 1000
EHLO_REPLY = "".join(
    f"250{mark}{word}\r\n"
    for mark, word in (
        ("-", "PIPELINING"),
        ("-", "SIZE 52428800"),
        ("-", "ETRN"),
        ("-", "STARTTLS"),
        ("-", "ENHANCEDSTATUSCODES"),
        ("-", "8BITMIME"),
        ("-", "DSN"),
        ("-", "SMTPUTF8"),
        (" ", "CHUNKING"),
    )
)


@dataclass(frozen=True)
class Mix:
    """Datagrams and their order, as `dgramsend` reads them.

    Attributes:
        messages: File of the datagrams.
        order: File of numbers.
        sessions: How many are sent.
        failures: How many of them failed.
        failing_domains: Domains with at least one failure.
        domains: Domains with at least one session.
    """

    messages: Path
    order: Path
    sessions: int
    failures: int
    failing_domains: int
    domains: int


def make_mix(work: Path, domains: int, sessions: int) -> Mix:
    """Write the files of a mix; the same for the same numbers."""
    messages, order = work / f"mix-{domains}", work / f"mix-{domains}-{sessions}"
    with messages.open("wb") as out:
        for number in range(domains):
            for kind in range(KINDS):
                datagram = encode(_datagram(number, kind))
                out.write(struct.pack("=I", len(datagram)) + datagram)
    rng = random.Random(SEED)
    # Each domain as often as any other, to within one; then in any order.
    chosen = [number % domains * KINDS for number in range(sessions)]
    rng.shuffle(chosen)
    for at in rng.sample(range(sessions), round(sessions * FAILING_SHARE)):
        chosen[at] += 1 + rng.randrange(FAILURE_KINDS)
    order.write_bytes(array("I", chosen).tobytes())
    failing = [number for number in chosen if number % KINDS]
    return Mix(
        messages,
        order,
        sessions,
        len(failing),
        len({number // KINDS for number in failing}),
        min(domains, sessions),
    )


def encode(datagram: dict[str, Any]) -> bytes:
    """As libtlsrpt writes it."""
    return json.dumps(datagram, separators=(",", ":")).replace('":"', '": "').encode()


def domain_name(number: int) -> str:
    """A domain that `dnsd` knows, with a TLSRPT record that names a mailbox of its own."""
    return f"p{number:07d}-o{number % OPERATORS:04d}.test"


def _datagram(number: int, kind: int) -> dict[str, Any]:
    domain = domain_name(number)
    hosts = [f"mx1.{domain}", f"mx2.{domain}"]
    policy: dict[str, Any]
    if number % 10 < STS_TENTHS:
        lines = ["version: STSv1", "mode: enforce", *(f"mx: {host}" for host in hosts)]
        policy = {"policy-type": 2, "policy-domain": domain}
        policy |= {"policy-string": [*lines, "max_age: 604800"], "mx-host": hosts}
        code, reason = 202, "certificate-host-mismatch"
    else:
        records = [f"3 1 1 {random.Random(f'{host}').randbytes(32).hex()}" for host in hosts]
        policy = {"policy-type": 1, "policy-domain": domain, "policy-string": records}
        code, reason = 203, "certificate not trusted"
    if kind:
        host, sender = (kind - 1) % 2, (kind - 1) // 2
        detail = {
            "c": code,
            "s": f"192.0.2.{1 + sender}",
            "n": hosts[host],
            "h": f"250-{hosts[host]}\r\n{EHLO_REPLY}",
            "r": f"198.51.{number % 100}.{1 + host}",
            "f": reason,
        }
        policy |= {"failure-details": [detail], "t": 1, "f": 1}
    else:
        policy |= {"t": 0, "f": 0}
    record = f"v=TLSRPTv1; rua=mailto:tlsrpt@{domain}"
    return {"dpv": "1", "d": domain, "pr": record, "policies": [policy]}
