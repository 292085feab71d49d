# SPDX-License-Identifier: Apache-2.0
"""What the policy says, held against the MX records of the day, in both directions.

Knows the policy as it was fetched and the names in DNS; how the hosts behave when they are
connected to, `hosts` and `certificates` judge. The body's lines are read in `policybody`.

Which wildcards are too wide is judged by labels and two small tables, not by the public suffix
list: a list in the core would age with it, and the common cases are few.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from strictmail.core.check.grounds import is_dane_complete, sts_line, takes_mail, usable_record
from strictmail.core.check.receivers import points_at, recognise
from strictmail.core.check.result import Evidence, Severity
from strictmail.core.check.rules import policykinds as kinds
from strictmail.core.check.rules.policybody import find_invalid, judge_body
from strictmail.core.explain import printable
from strictmail.core.mxset import MxStatus
from strictmail.core.sts.fetchrules import policy_url
from strictmail.core.sts.lifecycle import is_expired
from strictmail.core.sts.match import is_mx_pattern, match_any, match_mx
from strictmail.core.sts.values import FetchedPolicy, FetchFailure, Mode
from strictmail.core.tagrecord import quote

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from strictmail.core.check.facts import DomainFacts
    from strictmail.core.check.receivers import Receiver
    from strictmail.core.check.result import Finding
    from strictmail.core.mxset import MxHost
    from strictmail.core.sts.lifecycle import PolicyEntry
    from strictmail.core.sts.values import StsPolicy

KINDS: Final = kinds.KINDS

ADVISED_MAX_AGE_SECONDS: Final = 30 * kinds.DAY_SECONDS
"""In policies that are proposed: weeks, as RFC 8461 §3.2 expects."""

_MTA_STS_YEAR: Final = 2018
"""RFC 8461 is of that year: what looks like an earlier date in an id is none."""

_COUNTRY_SUFFIXES: Final = frozenset(
    {
        "ac.uk",
        "co.il",
        "co.in",
        "co.jp",
        "co.kr",
        "co.nz",
        "co.uk",
        "co.za",
        "com.ar",
        "com.au",
        "com.br",
        "com.cn",
        "com.hk",
        "com.mx",
        "com.pl",
        "com.sg",
        "com.tr",
        "com.tw",
        "com.ua",
        "gov.uk",
        "ne.jp",
        "net.au",
        "net.br",
        "or.jp",
        "org.au",
        "org.uk",
    }
)
"""Two labels under which anybody can register a name."""

_OPEN_SUFFIXES: Final = frozenset(
    {
        "amazonaws.com",
        "ddns.net",
        "duckdns.org",
        "dyndns.org",
        "google.com",
        "googlemail.com",
        "googleusercontent.com",
        "hopto.org",
        "no-ip.org",
        "outlook.com",
        "ovh.net",
        "your-server.de",
        "zapto.org",
    }
)
"""Whole providers and dynamic DNS: others have hosts there, too."""

_ID_DATE: Final = re.compile(r"(20[0-9]{2})([01][0-9])([0-3][0-9])")


def judge(facts: DomainFacts) -> Iterator[Finding]:
    """What the policy is like, and whether it fits the MX records."""
    if isinstance(facts.policy, FetchFailure) and facts.policy.reason_code == "syntax":
        yield find_invalid(facts, facts.policy, _fitting_policy(facts))
    if isinstance(facts.policy, FetchedPolicy):
        yield from judge_body(facts, facts.policy)
        yield from _mode(facts, facts.policy.policy)
        yield from _max_age(facts, facts.policy.policy)
        yield from _wildcards(facts, facts.policy.policy)
        yield from _against_mx(facts, facts.policy.policy)
        yield from _same_id(facts, facts.policy.policy)
    yield from _cached(facts)


def _mx_lines(hosts: Sequence[str]) -> str:
    """The `mx` lines that allow these hosts: a receiver's own where they are one's."""
    receiver = recognise(hosts)
    patterns = receiver.patterns if receiver is not None else [h for h in hosts if is_mx_pattern(h)]
    return "\n".join(f"mx: {pattern}" for pattern in patterns)


def _fitting_policy(facts: DomainFacts) -> str:
    """A whole policy for the MX records of the day, in mode testing to begin with."""
    lines = _mx_lines([host.name for host in facts.mx.hosts])
    if not lines:
        return ""
    return f"version: STSv1\nmode: testing\n{lines}\nmax_age: {kinds.DAY_SECONDS}"


def _mode(facts: DomainFacts, policy: StsPolicy) -> Iterator[Finding]:
    url = policy_url(facts.domain)
    evidence = Evidence("mode", str(policy.mode))
    match policy.mode:
        case Mode.ENFORCE:
            yield kinds.ENFORCE.found(url, "The policy is in mode enforce.", evidence)
        case Mode.TESTING:
            since = _since(facts)
            long = timedelta(weeks=kinds.TESTING_WEEKS)
            if since is not None and facts.looked_at - since > long:
                yield kinds.TESTING_LONG.found(
                    url,
                    f"The policy is in mode testing, apparently since {since:%Y-%m-%d}.",
                    evidence,
                    Evidence("since", f"{since:%Y-%m-%d}"),
                    paste="mode: enforce",
                )
            else:
                yield kinds.TESTING.found(
                    url, "The policy is in mode testing: nothing is protected yet.", evidence
                )
        case Mode.NONE:
            yield kinds.MODE_NONE.found(
                url,
                "The policy is in mode none: it switches MTA-STS off.",
                evidence,
                severity=None if is_dane_complete(facts) is False else Severity.INFO,
            )


def _since(facts: DomainFacts) -> datetime | None:
    """Since when this policy has been there, as its id or a cached copy show."""
    cached = facts.cached
    if cached is not None and cached.policy.mode is Mode.TESTING:
        return cached.fetched_at
    record = usable_record(facts)
    # Not from an RFC: ids are opaque, and most owners write the date of the change.
    found = _ID_DATE.match(record.policy_id) if record is not None else None
    if found is None:
        return None
    try:
        since = datetime(int(found[1]), int(found[2]), int(found[3]), tzinfo=UTC)
    except ValueError:
        return None
    return since if since.year >= _MTA_STS_YEAR and since <= facts.looked_at else None


def _max_age(facts: DomainFacts, policy: StsPolicy) -> Iterator[Finding]:
    if policy.mode is Mode.NONE:
        # RFC 8461 §8.3: a policy on its way out has a small one.
        return
    kind = None
    if policy.max_age < kinds.DAY_SECONDS:
        kind = kinds.SHORT
    elif policy.max_age < kinds.WEEK_SECONDS and policy.mode is Mode.ENFORCE:
        kind = kinds.WEAK
    if kind is not None:
        yield kind.found(
            policy_url(facts.domain),
            f"max_age is {policy.max_age} seconds.",
            Evidence("max_age", str(policy.max_age)),
            paste=f"max_age: {ADVISED_MAX_AGE_SECONDS}",
        )


def _is_too_wide(pattern: str) -> bool:
    base = pattern.removeprefix("*.")
    return pattern.startswith("*.") and (
        "." not in base or base in _COUNTRY_SUFFIXES or base in _OPEN_SUFFIXES
    )


def _wildcards(facts: DomainFacts, policy: StsPolicy) -> Iterator[Finding]:
    lines = _mx_lines([host.name for host in facts.mx.hosts])
    for pattern in dict.fromkeys(policy.mx_patterns):
        if _is_too_wide(pattern):
            yield kinds.TOO_WIDE.found(
                policy_url(facts.domain),
                f"{quote(pattern)} allows far more than the MX hosts of this domain.",
                Evidence("mx pattern", pattern),
                paste=lines,
            )


def _against_mx(facts: DomainFacts, policy: StsPolicy) -> Iterator[Finding]:
    if facts.mx.status in (MxStatus.NULL, MxStatus.NXDOMAIN) and policy.mode is not Mode.NONE:
        yield kinds.NO_MAIL.found(
            facts.domain, "The domain takes no mail, and has a policy all the same."
        )
    if not takes_mail(facts) or policy.mode is Mode.NONE:
        return
    refused = [host for host in facts.mx.hosts if not match_any(host.name, policy.mx_patterns)]
    top = facts.mx.hosts[0].preference if facts.mx.hosts else 0
    lost = sum(host.preference == top for host in refused)
    only_backups = lost == sum(host.preference == top for host in facts.mx.hosts)
    for host in refused:
        all_refused = len(refused) == len(facts.mx.hosts)
        skips_best = only_backups and host.preference == top
        yield _refused(facts, policy, host, all_refused=all_refused, skips_best=skips_best)
    if not refused:
        yield kinds.ALL_ALLOWED.found(
            facts.domain,
            f"The policy allows every MX host ({len(facts.mx.hosts)}).",
            Evidence("mx patterns", ", ".join(policy.mx_patterns)),
        )
    yield from _patterns(facts, policy)


def _refused(
    facts: DomainFacts, policy: StsPolicy, host: MxHost, *, all_refused: bool, skips_best: bool
) -> Finding:
    """An MX host that no pattern allows."""
    shown = quote(host.name)
    if policy.mode is Mode.TESTING:
        severity, effect = Severity.WARNING, "senders report it, and would skip it in mode enforce"
    elif all_refused:
        # RFC 8461 §5: no delivery to hosts that do not match (STS-APP-17, STS-APP-13).
        severity, effect = Severity.CRITICAL, "no other is allowed either: mail waits"
    elif skips_best:
        severity, effect = Severity.CRITICAL, "senders skip it, and mail goes to the backups only"
    else:
        severity, effect = Severity.WARNING, "senders skip it"
    target = _allowed_target(facts, policy, host.name)
    kind = kinds.ALIAS_TARGET if target else kinds.NOT_ALLOWED
    sentence = f"The policy does not allow the MX host {shown}: {effect}."
    if target:
        sentence = (
            f"The policy allows {quote(target)}, the target of the MX host {shown}, but not the "
            f"name in the MX record: {effect}."
        )
    elif facts.mx.status is MxStatus.IMPLICIT:
        sentence = f"Without MX records the host is {shown} itself, which is not allowed: {effect}."
    return kind.found(
        printable(host.name),
        sentence,
        Evidence("MX record", f"{host.preference} {host.name}"),
        Evidence("mx patterns", ", ".join(policy.mx_patterns)),
        severity=severity,
        paste=_mx_lines([host.name]),
    )


def _allowed_target(facts: DomainFacts, policy: StsPolicy, name: str) -> str:
    """The name that an MX host is an alias of, if the policy allows that; else ""."""
    for host in facts.hosts:
        for answer in host.addresses if host.name == name else ():
            if answer.is_alias and match_any(answer.canonical_name, policy.mx_patterns):
                return answer.canonical_name
    return ""


def _patterns(facts: DomainFacts, policy: StsPolicy) -> Iterator[Finding]:
    """Each pattern, held against the MX hosts."""
    names = [host.name for host in facts.mx.hosts]
    receiver = recognise(names)
    fitting = (*receiver.patterns, *receiver.documented) if receiver is not None else ()
    for pattern in dict.fromkeys(policy.mx_patterns):
        if pattern in fitting:
            continue
        matched = [name for name in names if match_mx(name, pattern)]
        if not matched:
            yield _unmatched(facts, pattern, receiver)
        elif pattern.startswith("*.") and not _is_too_wide(pattern):
            others = [other for other in policy.mx_patterns if other != pattern]
            alone = [name for name in matched if not match_any(name, others)]
            if alone:
                yield kinds.BY_WILDCARD.found(
                    policy_url(facts.domain),
                    f"Only {quote(pattern)} allows {', '.join(map(quote, alone[:3]))}"
                    f"{' and others' if len(alone) > len(alone[:3]) else ''}.",
                    Evidence("mx pattern", pattern),
                    paste=_mx_lines(alone),
                )


def _unmatched(facts: DomainFacts, pattern: str, receiver: Receiver | None) -> Finding:
    url = policy_url(facts.domain)
    evidence = Evidence("mx pattern", pattern)
    if receiver is not None and points_at(receiver, pattern):
        return kinds.RECEIVER.found(
            url,
            f"{quote(pattern)} matches no MX host. Mail goes to {receiver.name}.",
            evidence,
            fix=f"{kinds.RECEIVER.fix} {receiver.advice}".strip(),
            paste="\n".join(f"mx: {fit}" for fit in receiver.patterns),
        )
    return kinds.STALE.found(url, f"{quote(pattern)} matches no MX host.", evidence)


def _summary(policy: StsPolicy) -> tuple[Mode, int, frozenset[str]]:
    """What makes two policies the same for senders."""
    return policy.mode, policy.max_age, frozenset(policy.mx_patterns)


def _same_id(facts: DomainFacts, policy: StsPolicy) -> Iterator[Finding]:
    record, cached = usable_record(facts), facts.cached
    if record is None or cached is None or record.policy_id != cached.policy_id:
        return
    if _summary(cached.policy) != _summary(policy):
        # RFC 8461 §3.1: a changed policy has a new id (STS-REC-36).
        yield kinds.SAME_ID.found(
            facts.domain,
            f"The policy is another one than on {cached.fetched_at:%Y-%m-%d}, under the same id "
            f"{record.policy_id}.",
            Evidence("policy before", " | ".join(cached.policy.policy_strings)),
            Evidence("policy now", " | ".join(policy.policy_strings)),
            paste=sts_line(facts),
        )


def _cached(facts: DomainFacts) -> Iterator[Finding]:
    """Hosts that senders with the earlier policy skip."""
    cached = facts.cached
    if cached is None or not takes_mail(facts) or not _binds(facts, cached):
        return
    patterns = cached.policy.mx_patterns
    refused = [host.name for host in facts.mx.hosts if not match_any(host.name, patterns)]
    if not refused:
        return
    # RFC 8461 §3.3: without a new policy, the earlier one goes on (STS-FET-29).
    stuck = len(refused) == len(facts.mx.hosts) and not isinstance(facts.policy, FetchedPolicy)
    yield kinds.CACHED_REFUSES.found(
        facts.domain,
        f"The policy of {cached.fetched_at:%Y-%m-%d}, which senders may hold until "
        f"{cached.expires_at:%Y-%m-%d}, does not allow {', '.join(map(quote, refused[:3]))}"
        f"{' and others' if len(refused) > len(refused[:3]) else ''}.",
        Evidence("cached mx patterns", ", ".join(patterns)),
        Evidence("cached policy id", cached.policy_id),
        severity=Severity.CRITICAL if stuck else None,
        paste=_mx_lines(refused),
    )


def _binds(facts: DomainFacts, cached: PolicyEntry) -> bool:
    """Whether the earlier policy is still in force, and another one than today's."""
    if cached.policy.mode is not Mode.ENFORCE or is_expired(cached, facts.looked_at):
        return False
    if isinstance(facts.policy, FetchedPolicy):
        return _summary(cached.policy) != _summary(facts.policy.policy)
    return True
