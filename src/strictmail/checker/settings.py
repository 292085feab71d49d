# SPDX-License-Identifier: Apache-2.0
"""What a check may take of time and of other people's servers: every bound, its unit, its reason.

The defaults are for one domain at a terminal as well as for a list of fifty thousand: what they
bound is what one remote party notices of us, and that is the same in both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from strictmail.net.smtpdialogue import DEFAULT_LIMITS, ProbeLimits

CANARIES: Final = (
    "gmail-smtp-in.l.google.com",
    "outlook-com.olc.protection.outlook.com",
    "mx01.mail.icloud.com",
    "mta5.am0.yahoodns.net",
)
"""MX hosts of the largest receivers: if none of them can be connected to, it is not they."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckSettings:
    """How checks are made.

    Attributes:
        ehlo_name: What is said in EHLO: a name that leads to this machine, or an address literal,
            since hosts look askance at any other; "" for the machine's own.
        probe_limits: How long one session with an MX host waits for what.
        policy_seconds: For one fetch of a policy: what RFC 8461 §3.3 gives it.
        rua_seconds: For the look at one report destination.
        server_seconds: For one reply of a name server.
        deadline_seconds: For one domain, whatever anybody does; what is not done by then is
            unknown. Longer than a greeting that takes its time and a retry.
        allow_networks: Networks that may be connected to beside the public ones: a lab, or the
            inside of a site. Who publishes a domain must not steer us into the inner network.
        want_probes: Connect to MX hosts.
        want_policy_looks: Look at the policy host's addresses one by one, besides the fetch that
            a sender makes.
        want_authorities: Ask every authoritative name server.
        want_rua: Look at report destinations.
        both_key_types: Ask a host for its other certificate, too: one connection more each.
        max_hosts: MX hosts of a domain. Few have more than ten; one answer of somebody else's
            must not make us connect to hundreds.
        max_addresses: Addresses of one host and family that are looked at: what stands behind
            the others is the same machine, or another of its kind.
        max_zones: Zones of one domain whose servers are asked.
        max_name_servers: Of one zone.
        max_server_addresses: Of one name server, both families together.
        max_rua: Report destinations of one domain.
        connections_per_address: To one address of an MX host at once: MTAs count them.
        connections_per_operator: To all hosts under one registrable domain at once: a large
            operator's hosts share their limits.
        connections_per_policy_host: To one address of policy hosts at once; hosting providers
            serve thousands of them from one.
        questions_per_server: To one address of a name server at once.
        connections_per_host: To one MX host within `keep_seconds`, all addresses, retries and key
            types included: a check is no load test.
        spacing_seconds: Between two connections to the same address.
        retry_seconds: Before a busy or silent host is asked once more; half to one and a half
            times of it, so that retries do not come together. Long enough for a slot to be free
            again, short enough for the deadline.
        keep_seconds: How long the look at an MX host, a report destination or a name server
            serves other domains of the same run.
        keep_answers_seconds: A DNS answer serves other domains for its TTL, and at most, at
            least these: (least, most). The least lets a failure and a TTL of 0 be one answer.
        max_kept_hosts: Sessions that are kept: some 5 KB each, certificates included.
        max_kept_answers: DNS answers that are kept: some 0.5 KB each.
        port25_canaries: Host names of large receivers that are connected to first; none: not
            tested. Not for a run that redirects connections.
        canary_seconds: For one of these connections.
    """

    ehlo_name: str = ""
    probe_limits: ProbeLimits = DEFAULT_LIMITS
    policy_seconds: float = 60.0
    rua_seconds: float = 30.0
    server_seconds: float = 3.0
    deadline_seconds: float = 90.0
    allow_networks: tuple[str, ...] = ()
    want_probes: bool = True
    want_policy_looks: bool = True
    want_authorities: bool = True
    want_rua: bool = True
    both_key_types: bool = True
    max_hosts: int = 16
    max_addresses: int = 4
    max_zones: int = 8
    max_name_servers: int = 8
    max_server_addresses: int = 4
    max_rua: int = 4
    connections_per_address: int = 1
    connections_per_operator: int = 16
    connections_per_policy_host: int = 4
    questions_per_server: int = 4
    connections_per_host: int = 48
    spacing_seconds: float = 0.1
    retry_seconds: float = 8.0
    keep_seconds: float = 3600.0
    keep_answers_seconds: tuple[float, float] = (60.0, 3600.0)
    max_kept_hosts: int = 4096
    max_kept_answers: int = 32768
    port25_canaries: tuple[str, ...] = CANARIES
    canary_seconds: float = 10.0
