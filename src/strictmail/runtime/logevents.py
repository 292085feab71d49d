# SPDX-License-Identifier: Apache-2.0
"""Every log line that strictmail writes: its level, what it means, what to do.

The table in docs/troubleshooting.md is made from it; a name that is not here cannot be logged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from strictmail.runtime.options import LogLevel


@dataclass(frozen=True, slots=True)
class LogEvent:
    """One kind of log line.

    Attributes:
        level: How severe it is.
        meaning: What has happened, in a sentence.
        action: What the reader should do; empty: nothing.
    """

    level: LogLevel
    meaning: str
    action: str = ""


_INFO: Final = LogLevel.INFO
_WARNING: Final = LogLevel.WARNING
_ERROR: Final = LogLevel.ERROR

EVENTS: Final[dict[str, LogEvent]] = {
    "started": LogEvent(_INFO, "The daemon has read its configuration and begins to start."),
    "ready": LogEvent(
        _INFO, "Every listener answers, and no answer is weaker than the cache demands."
    ),
    "reloaded": LogEvent(_INFO, "The configuration was read again; `changed` names what differs."),
    "reload-refused": LogEvent(
        _ERROR,
        "The new configuration is refused; the daemon goes on with the old one.",
        "Correct the file (`strictmail config check`) and reload again.",
    ),
    "stopping": LogEvent(
        _INFO, "The daemon answers what was asked and closes its connections, then it ends."
    ),
    "listener-open": LogEvent(_INFO, "A listener accepts connections at `socket`."),
    "listener-error": LogEvent(
        _ERROR,
        "A listener cannot be opened, or has failed.",
        "Free the address, or correct `socket` in the configuration; MTAs that ask there defer "
        "their mail.",
    ),
    "handover-unavailable": LogEvent(
        _WARNING,
        "The daemon runs, but `strictmail serve --takeover` cannot replace it without a gap: its "
        "hand-over socket cannot be opened in the state directory.",
        "Look at the rights of the state directory, or use systemd's socket units.",
    ),
    "client-error": LogEvent(
        _WARNING,
        "A client sent something that is no socketmap request; it was answered with PERM where "
        "possible, and its connection closed.",
        "See which program at `client` connects to this socket: is it an MTA, with the right "
        "map type?",
    ),
    "policy-learnt": LogEvent(_INFO, "A domain's policy was fetched for the first time."),
    "policy-changed": LogEvent(
        _INFO, "A newer policy of a domain has taken the place of the cached one."
    ),
    "policy-fetch-failed": LogEvent(
        _WARNING,
        "A domain says that it has a policy, but it could not be fetched, and none is cached: its "
        "mail goes on as without a policy.",
        "Mostly the domain's own fault: `strictmail explain DOMAIN` says which. If it happens for "
        "many domains, look at this machine's outbound HTTPS with `strictmail doctor`.",
    ),
    "policy-refresh-failed": LogEvent(
        _WARNING,
        "A cached policy could not be refreshed; it stays in force until `expires_at`.",
        "`strictmail cache failing` lists them by the time that is left. Nothing has to be done "
        "for one domain; for many, look at DNS and outbound HTTPS with `strictmail doctor`.",
    ),
    "policy-record-missing": LogEvent(
        _WARNING,
        "The TXT record of a cached policy is gone, broken, or cannot be looked up, for `reason`; "
        "the policy stays in force until `expires_at`, and is refreshed over HTTPS all the same.",
        "Nothing for one domain: its owner may be leaving MTA-STS in the wrong order. For many, "
        "something between this machine and DNS keeps the records away: `strictmail doctor`.",
    ),
    "policy-expired": LogEvent(
        _WARNING,
        "A cached policy has expired after refreshes that failed; the domain's mail is no longer "
        "protected by it.",
        "If the domain matters, ask its owner, and demand TLS yourself for a while: "
        "`strictmail policy override add`.",
    ),
    "decision-changed": LogEvent(
        _INFO,
        "What a next-hop demands is now `level`, for `reason`; the line says on which policy and "
        "MX hosts that rests.",
    ),
    "policy-not-stored": LogEvent(
        _WARNING,
        "A policy was used and not stored: `cache.per_registrable_domain` policies of the same "
        "registrable domain are stored already.",
        "If you send much mail to many subdomains of one owner, raise the limit.",
    ),
    "internal-error": LogEvent(
        _ERROR,
        "A fault of strictmail itself; the mail in question waits.",
        "Please report it, with this line.",
    ),
    "observe-would-answer": LogEvent(
        _INFO,
        "A listener in observe mode answered that nothing is demanded; without observe mode it "
        "would have answered `level`.",
        "When these lines are as you want them, set `observe = false`.",
    ),
    "override-active": LogEvent(
        _WARNING,
        "An operator's override decides for a next-hop, until `expires`.",
        "`strictmail policy override list` shows who wanted it and why; remove what is not needed.",
    ),
    "override-expired": LogEvent(
        _INFO, "An override has ended; what the domain itself demands counts again."
    ),
    "store-unavailable": LogEvent(
        _ERROR,
        "The state directory cannot be written or read: answers come from memory, and what is "
        "learnt now would be lost at a restart.",
        "Look for a full disk, a read-only file system or wrong rights. Do not restart before "
        "it is mended.",
    ),
    "store-recovered": LogEvent(_INFO, "The state directory can be written again; all is saved."),
    "collector-open": LogEvent(_INFO, "The TLSRPT datagrams of Postfix are received at `socket`."),
    "datagram-refused": LogEvent(
        _WARNING,
        "A datagram says nothing that can be counted, for `reason`; the first few of each reason a "
        "day are logged, the metric `strictmail_datagrams_refused_total` counts all.",
        "With `reason` version: is there a newer strictmail for this Postfix? Else see which "
        "program besides Postfix writes to the socket.",
    ),
    "drainer-ended": LogEvent(
        _WARNING,
        "The process that drains a TLSRPT socket has ended by itself, and another one was started; "
        "what came in between waited in the kernel's queue, as far as it is long enough.",
        "If it happens again, look for what kills it: memory, or a limit of the service.",
    ),
    "session-store-unavailable": LogEvent(
        _ERROR,
        "Session counts cannot be stored: they wait in memory, and would be lost if the daemon "
        "were killed now.",
        "Look for a full disk, a read-only file system or wrong rights.",
    ),
    "session-store-recovered": LogEvent(
        _INFO, "Session counts can be stored again; what waited is stored."
    ),
    "reports-made": LogEvent(
        _INFO,
        "Days that are over were closed: `reports` domains have a report, `without` have none.",
    ),
    "report-not-delivered": LogEvent(
        _WARNING,
        "A report was given up: its destination refused it, or did not take it for 24 hours.",
        "Mostly the destination's own fault; `strictmail report show` tells each attempt's end. If "
        "it happens to all, look at the relay, and at outbound HTTPS, with `strictmail doctor`.",
    ),
    "report-destination-suppressed": LogEvent(
        _INFO,
        "A destination refuses for good and is left alone `until` then.",
    ),
    "probe-port-blocked": LogEvent(
        _WARNING,
        "Outbound port 25 is closed here: the MX hosts of domains with a testing policy cannot be "
        "probed, and sessions that nobody verified stay out of reports.",
        "Let this machine connect to port 25, or set `probe_testing = false` in [reporter].",
    ),
    "clock-was-set": LogEvent(
        _WARNING,
        "The wall clock was set by `seconds`; no day is closed until it has been steady for five "
        "minutes.",
        "If it comes again, see to the time service: `strictmail doctor`.",
    ),
    "resolver-not-validating": LogEvent(
        _WARNING,
        "The name servers do not validate DNSSEC, or their AD bit is not trusted: DANE is off.",
        "Run a validating resolver on this machine (such as unbound) and let /etc/resolv.conf or "
        "`dns.servers` point to it.",
    ),
}
"""Name of the event -> what it is."""
