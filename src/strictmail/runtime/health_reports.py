# SPDX-License-Identifier: Apache-2.0
"""Judging the way of reports: the DKIM keys against DNS, the relay, probes. Facts in, findings out.

Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from strictmail.core.check.facts import PortState
from strictmail.net.dkim import KeyState
from strictmail.runtime.health import Finding, fail, ok, unknown, warn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from strictmail.net.dkim import KeyFinding


@dataclass(frozen=True, slots=True)
class ReportFacts:
    """What was found out about the way of reports.

    Attributes:
        key_error: Why the keys or the password cannot be used; "" if they can.
        keys: What DNS says of each key.
        ed25519_alone: An identity signs with Ed25519 and nothing else.
        has_relay: Mail goes through a relay.
        relay_error: Why the relay does not talk to us; "" if it does, None: not asked.
        envelope_sender: Whether bounces go anywhere.
        has_probes: Domains whose policy only tests are probed.
        port25: Whether that can be done from here; None: not asked.
    """

    key_error: str = ""
    keys: Sequence[KeyFinding] = ()
    ed25519_alone: bool = False
    has_relay: bool = False
    relay_error: str | None = None
    envelope_sender: bool = True
    has_probes: bool = False
    port25: PortState | None = None


def judge_reports(facts: ReportFacts) -> Iterator[Finding]:
    """Whether reports can be signed, and handed over."""
    if facts.key_error:
        yield fail("report-keys", facts.key_error, "until then, no report is made or sent")
    for key in facts.keys:
        yield judge_key(key)
    if facts.ed25519_alone:
        yield warn(
            "report-keys-rsa",
            "report mail is signed with Ed25519 alone: many receivers verify only RSA, and ignore "
            "the reports",
            "openssl genrsa -out /etc/strictmail/dkim-rsa.pem 2048, and list it in dkim_keys first",
        )
    if facts.has_relay:
        yield _judge_relay(facts.relay_error)
        if not facts.envelope_sender:
            yield warn(
                "report-bounces",
                "bounces of report mail go nowhere: dead mailboxes get a report every day",
                "strictmail.toml: [reporter] envelope_sender, with its mail piped into",
                "`strictmail report suppress --bounce -`",
            )
    if facts.has_probes:
        yield _judge_port(facts.port25)


def _judge_port(state: PortState | None) -> Finding:
    name = "report-probes"
    match state:
        case PortState.OPEN:
            return ok(name, "outbound port 25 is open: testing policies can be probed")
        case PortState.BLOCKED:
            return warn(
                name,
                "outbound port 25 is closed here: testing policies cannot be probed, and sessions "
                "that nobody verified stay out of reports",
                "let this machine connect to port 25 elsewhere",
                "or strictmail.toml: [reporter] probe_testing = false",
            )
        case _:
            return unknown(name, "whether outbound port 25 is open was not tested")


def judge_key(finding: KeyFinding) -> Finding:
    """Whether receivers find the public half of a key."""
    name = f"report-key:{finding.name}"
    publish = f'{finding.name}. IN TXT "{finding.wanted}"'
    match finding.state:
        case KeyState.GOOD:
            return ok(name, "DNS has the public half of the key")
        case KeyState.UNKNOWN:
            return unknown(name, f"it could not be looked up: {finding.detail or 'no answer'}")
        case KeyState.ABSENT:
            return fail(
                name, "DNS has no such record: receivers ignore reports without it", publish
            )
        case KeyState.DIFFERENT:
            return fail(
                name,
                "DNS has another key: every signature fails, and reports are ignored",
                publish,
            )
        case KeyState.NOT_FOR_REPORTS:
            return warn(name, "`s=` does not allow reports: some receivers ignore them", publish)
        case KeyState.REPORTS_ONLY:
            # RFC 8460 §3: the key may be for reports alone (RPT-DLV-33); RFC 6376 §3.6.1: then
            # verifiers of ordinary mail pass over it.
            return warn(
                name,
                "`s=tlsrpt` alone: mail servers that verify DKIM for DMARC pass over this key",
                publish,
            )


def _judge_relay(error: str | None) -> Finding:
    name = "report-relay"
    if error is None:
        return unknown(name, "the mail relay was not asked")
    if error:
        return fail(
            name,
            f"the mail relay does not talk to us: {error}",
            "strictmail.toml: [reporter] relay_host, relay_port, relay_tls, relay_user",
        )
    return ok(name, "the mail relay takes our hello")
