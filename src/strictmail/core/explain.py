# SPDX-License-Identifier: Apache-2.0
"""A decision in words, and as JSON: the one place that turns a `Decision` into text.

Everything foreign in it (policy lines, host names) is escaped here for a terminal or a log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from strictmail.core.decision import REASONS, Decision, Level
from strictmail.core.mxset import MxHost, MxSet, TlsaState

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime, timedelta

LEVEL_WORDS = {
    Level.NONE: "no demand: the MTA's default level applies",
    Level.MAY: "TLS if offered",
    Level.ENCRYPT: "TLS required, not authenticated",
    Level.DANE: "DANE where a host has it, else as the MTA's level `dane` does",
    Level.DANE_ONLY: "verified TLS, by DANE",
    Level.SECURE: "verified TLS, by web PKI",
    Level.DEFER: "the mail waits",
}

TLSA_WORDS = {
    TlsaState.NOT_ASKED: "TLSA not looked at",
    TlsaState.NOT_APPLICABLE: "addresses not signed: DANE does not apply (RFC 7672 §2.2.2)",
    TlsaState.NONE: "no TLSA records",
    TlsaState.USABLE: "usable TLSA: held to DANE (RFC 7672 §2.2)",
    TlsaState.UNUSABLE: "TLSA present, none usable: TLS without authentication (RFC 7672 §2.2)",
    TlsaState.ERROR: "TLSA lookup failed: not used until it succeeds (RFC 7672 §2.1.2)",
    TlsaState.NO_ADDRESS: "no address found: skipped",
}


def printable(text: str, limit: int = 200) -> str:
    """Foreign text as one line of printable ASCII, the rest escaped, cut at `limit` characters."""
    escaped = text
    if not (text.isascii() and text.isprintable()):
        escaped = text.encode("ascii", "backslashreplace").decode("ascii")
        escaped = "".join(c if " " <= c <= "~" else f"\\x{ord(c):02x}" for c in escaped)
    return escaped if len(escaped) <= limit else escaped[: limit - 3] + "..."


def explain_lines(decision: Decision, now: datetime) -> Iterator[str]:
    """Say a decision in words, a line at a time, each with its rule's source."""
    reason = REASONS[decision.reason]
    yield f"{printable(decision.nexthop)}: {LEVEL_WORDS[decision.level]}"
    yield f"  because: {reason.sentence} ({reason.source})"
    if decision.allowed_mx:
        yield f"  allowed MX: {', '.join(printable(name) for name in decision.allowed_mx)}"
    for refused in decision.refused_mx:
        yield f"  refused MX: {printable(refused.name)}: {refused.reason}"
    yield from _policy_lines(decision, now)
    if decision.failure is not None:
        failure = decision.failure
        yield (
            f"  policy not learnt: {failure.result_type}: {printable(failure.reason)} "
            "(RFC 8461 §3.3: as without a policy)"
        )
    yield from _override_lines(decision, now)
    if decision.mx is not None:
        yield from _mx_lines(decision.mx)
    for note in decision.notes:
        yield f"  note: {printable(note, 400)}"


def _policy_lines(decision: Decision, now: datetime) -> Iterator[str]:
    policy = decision.policy
    if policy is None:
        yield "  policy: none known"
        return
    yield (
        f"  policy: mode {policy.mode}, id {printable(policy.policy_id) or '(none seen)'}, "
        f"max_age {policy.max_age} s, from {policy.source} (RFC 8461 §3.2)"
    )
    yield (
        f"    fetched {policy.fetched_at:%Y-%m-%d %H:%M:%SZ}, {say_duration(now - policy.fetched_at)}"
        f" ago; expires {policy.expires_at:%Y-%m-%d %H:%M:%SZ},"
        f" in {say_duration(policy.expires_at - now)}"
    )
    for pattern in policy.mx_patterns:
        yield f"    mx: {printable(pattern)}"


def _override_lines(decision: Decision, now: datetime) -> Iterator[str]:
    override = decision.override
    if override is None:
        return
    yield (
        f"  override: {override.action}, for {say_duration(override.expires_at - now)} more: "
        f"{printable(override.reason)}"
    )


def _mx_lines(mx: MxSet) -> Iterator[str]:
    signed = "signed" if mx.secure else "not signed"
    yield f"  MX: {mx.status.value}, {signed}" + (f": {printable(mx.detail)}" if mx.detail else "")
    for host in mx.hosts:
        yield f"    {host.preference:>5} {printable(host.name)}: {_host_words(host)}"


def _host_words(host: MxHost) -> str:
    words = TLSA_WORDS[host.tlsa_state]
    if host.tlsa_base_domain and host.tlsa_base_domain != host.name:
        words += f" at {printable(host.tlsa_base_domain)}"
    return words + (f" ({printable(host.detail)})" if host.detail else "")


def say_duration(delta: timedelta) -> str:
    """A duration in its two largest units: `3 d 4 h`; never negative."""
    seconds = max(0, int(delta.total_seconds()))
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    parts: list[str] = []
    for name, size in units:
        amount, seconds = divmod(seconds, size)
        if amount or (name == "s" and not parts):
            parts.append(f"{amount} {name}")
    return " ".join(parts[:2])


def decision_to_json(decision: Decision) -> dict[str, Any]:
    """A decision as JSON values; instants are RFC 3339, `null` where nothing is known."""
    reason = REASONS[decision.reason]
    return {
        "nexthop": decision.nexthop,
        "level": str(decision.level),
        "reason": decision.reason,
        "sentence": reason.sentence,
        "source": reason.source,
        "allowed_mx": list(decision.allowed_mx),
        "refused_mx": [{"name": r.name, "reason": r.reason} for r in decision.refused_mx],
        "policy": _policy_json(decision),
        "failure": _failure_json(decision),
        "override": _override_json(decision),
        "mx": _mx_json(decision.mx),
        "notes": list(decision.notes),
    }


def _policy_json(decision: Decision) -> dict[str, Any] | None:
    policy = decision.policy
    if policy is None:
        return None
    return {
        "id": policy.policy_id,
        "mode": str(policy.mode),
        "max_age": policy.max_age,
        "mx": list(policy.mx_patterns),
        "policy_strings": list(policy.policy_strings),
        "fetched_at": _instant(policy.fetched_at),
        "expires_at": _instant(policy.expires_at),
        "source": policy.source,
    }


def _failure_json(decision: Decision) -> dict[str, str] | None:
    failure = decision.failure
    if failure is None:
        return None
    return {
        "result_type": str(failure.result_type),
        "reason_code": failure.reason_code,
        "reason": failure.reason,
    }


def _override_json(decision: Decision) -> dict[str, Any] | None:
    override = decision.override
    if override is None:
        return None
    return {
        "action": str(override.action),
        "reason": override.reason,
        "mx": list(override.mx_patterns),
        "expires_at": _instant(override.expires_at),
    }


def _mx_json(mx: MxSet | None) -> dict[str, Any] | None:
    if mx is None:
        return None
    return {
        "status": mx.status.value,
        "secure": mx.secure,
        "detail": mx.detail,
        "ttl": mx.ttl,
        "hosts": [
            {
                "name": h.name,
                "preference": h.preference,
                "tlsa_state": h.tlsa_state.value,
                "tlsa_base_domain": h.tlsa_base_domain or None,
                "tlsa": [str(record) for record in h.tlsa],
                "detail": h.detail,
            }
            for h in mx.hosts
        ],
    }


def _instant(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
