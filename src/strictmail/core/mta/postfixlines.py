# SPDX-License-Identifier: Apache-2.0
"""The lines of Postfix's SMTP client that say something of a session, as patterns of their text.

Every pattern fits a whole text. What is foreign in it, an address, a reply, an issuer's name, comes
last, or cannot contain what ends it.
"""

from __future__ import annotations

import re
from typing import Final

PEER: Final = r"(?P<mx>[A-Za-z0-9_.-]{1,255})\[(?P<ip>[0-9A-Fa-f:.]{2,45})\]"
ESTABLISHED: Final = re.compile(
    rf"(?P<trust>Verified|Trusted|Untrusted|Anonymous) TLS connection (?P<how>established|reused)"
    rf" to {PEER}:(?P<port>[0-9]+): .*",
    re.DOTALL,
)
FAULT: Final = re.compile(
    rf"(?:server |CA )?certificate verification failed for {PEER}:[0-9]+: (?P<why>.*)", re.DOTALL
)
HANDSHAKE: Final = re.compile(rf"SSL_connect error to {PEER}:(?P<port>[0-9]+): .*", re.DOTALL)
TLSRPT: Final = re.compile(
    rf"TLSRPT: status=(?:success|failure), domain=[!-~]+, receiving_mx={PEER}(?:, .*)?", re.DOTALL
)
NOT_TOLD: Final = re.compile(
    r"warning: Could not report TLS handshake result to tlsrpt library: .*", re.DOTALL
)
TLS_POLICY: Final = re.compile(
    r"warning: TLS policy lookup for (?P<nexthop>[!-~]{1,512})/(?P<mx>[A-Za-z0-9_.-]{1,255}): "
    r"(?P<why>TLSA lookup error|no TLSA records found|client TLS configuration problem).*",
    re.DOTALL,
)
NO_MX: Final = re.compile(
    r"warning: socketmap:[!-~]+ socketmap server temporary error: enforce-no-mx: .*", re.DOTALL
)
SKIPPED: Final = re.compile(
    r"warning: MX name '(?P<mx>[A-Za-z0-9_.-]{1,255})' does not match STS MX pattern for "
    r"'(?P<nexthop>[!-&(-~]{1,512})'"
)
QUEUE_ID: Final = r"(?P<queue_id>[0-9A-Za-z]{5,40})"
DELIVERY: Final = re.compile(
    rf"{QUEUE_ID}: to=<(?P<to>[^<>\"]*)>, (?P<orig>orig_to=<[^<>\"]*>, )?"
    rf"relay=(?:none|{PEER}(?::(?P<port>[0-9]+))?), (?P<reused>conn_use=[0-9]+, )?"
    r"delay=[0-9.]+, delays=[0-9./]+, dsn=[245]\.[0-9]+\.[0-9]+, "
    r"status=(?P<status>[a-z]+) \((?P<why>.*)\)",
    re.DOTALL,
)
TO: Final = re.compile(rf"{QUEUE_ID}: to=<.*", re.DOTALL)
STRUCTURE: Final = re.compile(r">, (?:orig_to=<|relay=)")
HOST_FAILED: Final = re.compile(rf"{QUEUE_ID}: (?P<why>.*)", re.DOTALL)
NO_STARTTLS: Final = re.compile(
    rf"TLS is required, but (?:was not offered by host {PEER}"
    rf"|host (?P<mx2>[A-Za-z0-9_.-]{{1,255}})\[(?P<ip2>[0-9A-Fa-f:.]{{2,45}})\] refused to start "
    rf"TLS: .*)",
    re.DOTALL,
)
NOT_VERIFIED: Final = re.compile(r"Server certificate not (?:verified|trusted)")
CANNOT_START: Final = re.compile(r"Cannot start TLS: .*", re.DOTALL)
