# SPDX-License-Identifier: Apache-2.0
"""Run vector files against the core: `python -m strictmail.vectors FILE [--classes a,b]`.

A vector file is JSON: `format` describes each class in a sentence, `vectors` lists the cases: an
id, a class, the requirement, the input, the outcome and, where the standards leave room,
`det: "lenient-ok"` with further acceptable outcomes in `alt`. This module translates the words of
the inputs into the core's values and compares; it holds no rule of its own. A word that it does
not know is a failure, never a pass.

Exit status: 0 when nothing failed, 1 when something did, 2 for a file that cannot be read or a
class that does not exist.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import json
import operator
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

from strictmail import vectorreports
from strictmail.core.certname import CertContext, match_certificate
from strictmail.core.dane.act import DnsState, decide_host
from strictmail.core.dane.authenticate import dane_names
from strictmail.core.dane.base_domain import tlsa_qname
from strictmail.core.dane.tlsa import (
    CERT,
    FULL,
    SHA2_256,
    SHA2_512,
    is_usable,
    parse_tlsa,
    select_by_agility,
)
from strictmail.core.delivery import (
    Certificate,
    Dane,
    Delivery,
    Handshake,
    HostState,
    Outcome,
    Session,
    attempt_delivery,
    settle_policy,
)
from strictmail.core.dnsvalues import Tlsa
from strictmail.core.errors import (
    PolicySyntaxError,
    RecordSyntaxError,
    StrictmailError,
    TlsaSyntaxError,
)
from strictmail.core.mxset import MxStatus
from strictmail.core.sts.fetchrules import (
    judge_body,
    judge_certificate_error,
    judge_length,
    judge_response,
)
from strictmail.core.sts.lifecycle import PolicyEntry, apply_fetched, id_changed
from strictmail.core.sts.match import is_mx_pattern, match_any
from strictmail.core.sts.policy import parse_policy
from strictmail.core.sts.record import select_record
from strictmail.core.sts.values import FetchedPolicy, FetchFailure
from strictmail.core.tlsrpt.record import select_tlsrpt
from strictmail.core.tlsrpt.results import PolicyType, ResultType

_T = TypeVar("_T")


class VectorError(StrictmailError):
    """A vector says something that this runner cannot translate: it counts as failed."""


class VectorFileError(StrictmailError):
    """A vector file cannot be read, or lacks what every vector file has."""


@dataclass(frozen=True, slots=True)
class Vector:
    """One case of a vector file.

    Attributes:
        vector_id: Unique in its file.
        vector_class: Which part of the core decides it.
        requirement: The id of the requirement.
        given: The input, as its class has it.
        outcomes: Acceptable outcomes, the best first.
    """

    vector_id: str
    vector_class: str
    requirement: str
    given: Any
    outcomes: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one vector: `got` is fit to print."""

    vector: Vector
    passed: bool
    got: str


@dataclass(frozen=True, slots=True)
class Runner:
    """How a class is run: input to result, result against an outcome, result in words."""

    run: Callable[[Any], Any]
    accepts: Callable[[Any, Any], bool] = operator.eq
    show: Callable[[Any], str] = field(default=lambda got: json.dumps(got, ensure_ascii=True))


# --- MTA-STS ---


def _octets(text: Any) -> bytes:
    """A string of a vector as octets; `{"b64": ...}` for what JSON cannot hold."""
    if isinstance(text, Mapping):
        _check_members(text, ("b64",))
        return base64.b64decode(text["b64"], validate=True)
    if not isinstance(text, str):
        raise VectorError(f"neither text nor b64: {text!r}")
    return text.encode("utf-8", "surrogatepass")


def _run_sts_txt(given: Any) -> str | None:
    rrset = [[_octets(string) for string in strings] for strings in given]
    try:
        return select_record(rrset).policy_id
    except RecordSyntaxError:
        return None


def _run_tlsrpt_txt(given: Any) -> list[str] | None:
    rrset = [[_octets(string) for string in strings] for strings in given]
    try:
        return [uri.destination for uri in select_tlsrpt(rrset).rua]
    except RecordSyntaxError:
        return None


def _run_id_changed(given: Any) -> bool:
    _check_members(given, ("cached", "seen"))
    if given["cached"] is None or given["seen"] is None:
        return given["seen"] is not None
    return id_changed(given["cached"], given["seen"])


def _run_sts_policy(given: Any) -> dict[str, Any] | None:
    try:
        policy = parse_policy(_octets(given))
    except PolicySyntaxError:
        return None
    return {
        "mode": str(policy.mode),
        "max_age": policy.max_age,
        "mx": list(policy.mx_patterns),
    }


def _accepts_policy(got: Any, outcome: Any) -> bool:
    """Compare policies; an mx entry that can never match equals its absence."""
    if got is None or outcome is None:
        return got is outcome
    wanted = dict(outcome)
    patterns = [pattern.lower() for pattern in wanted["mx"] if is_mx_pattern(pattern)]
    wanted["mx"] = patterns
    return bool(got == wanted)


def _run_mx_match(given: Any) -> bool:
    _check_members(given, ("p", "mx"))
    return match_any(given["mx"], [given["p"]] if isinstance(given["p"], str) else given["p"])


def _run_cert_match(given: Any) -> bool:
    # Addresses among the subject alternative names (`ip`) never count: they are not handed on.
    _check_members(given, ("ctx", "ref", "san", "cn", "ip"))
    references = given["ref"]
    return match_certificate(
        CertContext(given["ctx"]),
        [references] if isinstance(references, str) else references,
        given.get("san") or (),
        given.get("cn"),
    )


# --- DANE ---

_STATES: Final = {
    "secure": DnsState.SECURE,
    "insecure": DnsState.INSECURE,
    **dict.fromkeys(
        ("nodata", "nodata-secure", "nodata-insecure", "nxdomain", "nxdomain-secure"),
        DnsState.ABSENT,
    ),
    **dict.fromkeys(("nxdomain-insecure", "absent", "none"), DnsState.ABSENT),
    **dict.fromkeys(
        ("error", "bogus", "servfail", "timeout", "malformed", "refused", "indeterminate"),
        DnsState.ERROR,
    ),
}


def _state(word: Any) -> DnsState:
    return _word(_STATES, "absent" if word is None else word, "DNSSEC state")


def _mx_state(word: Any) -> DnsState:
    """Without MX records the domain's own name is the host, which nobody could forge."""
    state = _state(word)
    return DnsState.SECURE if state is DnsState.ABSENT else state


def _tlsa(text: str) -> Tlsa:
    """A record; one that breaks its form becomes one that nobody can use."""
    try:
        return parse_tlsa(text)
    except TlsaSyntaxError:
        return Tlsa(255, 255, 255, b"")


def _run_tlsa_usable(given: Any) -> str:
    return "usable" if is_usable(_tlsa(given)) else "unusable"


def _run_tlsa_qname(given: Any) -> str:
    _check_members(given, ("host", "port"))
    return tlsa_qname(given["host"], given.get("port", 25))


def _run_dane_act(given: Any) -> str:
    _check_members(given, ("mx", "addr", "cname", "tlsa", "starttls", "mandatory"))
    tlsa = given.get("tlsa")
    tlsa = tlsa if isinstance(tlsa, Mapping) else {"st": tlsa}
    _check_members(tlsa, ("st", "rr"))
    addresses = _state(given["addr"])
    if addresses is DnsState.INSECURE and given.get("cname") == "secure":
        # RFC 7672 §2.2.2: a secure first alias makes the original name the candidate (DANE-32).
        addresses = DnsState.SECURE
    return decide_host(
        _mx_state(given["mx"]),
        addresses,
        _state(tlsa["st"]),
        [_tlsa(text) for text in tlsa.get("rr", ())],
        starttls=given.get("starttls", True),
        mandatory=given.get("mandatory", False),
    ).value


_SPKI_PREFIX: Final = bytes.fromhex("302a300506032b6570032100")
"""An Ed25519 public key, but for its 32 octets, any of which will do."""

_CERTIFICATE: Final = bytes.fromhex(
    "3081c33077a003020102020101300506032b6570300c310a300806035504030c0161301e170d3230"
    "303130313030303030305a170d3430303130313030303030305a300c310a300806035504030c0161"
    "302a300506032b65700321008a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801"
    "b40f6f5c300506032b6570034100"
)
"""A self-signed certificate without its signature, any 64 octets of which will do."""


def _agility_record(text: str, number: int, *, malformed: bool) -> Tlsa:
    """A record with data of the right size (or not), different for each number."""
    usage, selector, mtype = (int(part) for part in text.split())
    filling = bytes([number])
    data = {
        FULL: _CERTIFICATE + filling * 64 if selector == CERT else _SPKI_PREFIX + filling * 32,
        SHA2_256: filling * 32,
        SHA2_512: filling * 64,
    }.get(mtype, filling)
    return Tlsa(usage, selector, mtype, filling if malformed else data)


def _run_dane_agility(given: Any) -> bool:
    matches: dict[Tlsa, bool] = {}
    for number, (text, match) in enumerate(given, 1):
        if match not in (True, False, "malformed"):
            raise VectorError(f"neither true, false nor malformed: {match!r}")
        matches[_agility_record(text, number, malformed=match == "malformed")] = match is True
    return any(matches[record] for record in select_by_agility(tuple(matches), (2, 1)))


def _run_dane_names(given: Any) -> dict[str, Any]:
    _check_members(
        given, ("nexthop", "nexthop_expanded", "mx", "mx_secure", "base", "base_is_expanded")
    )
    names = dane_names(
        base_domain=given["base"],
        nexthop=given["nexthop"],
        nexthop_expanded=given.get("nexthop_expanded") or "",
        mx_host=given["mx"],
        mx_secure=given.get("mx_secure", False),
    )
    return {"sni": names.sni, "ref": list(names.reference_ids)}


def _accepts_names(got: Any, outcome: Any) -> bool:
    """The first reference identifier is the primary one; the others are a set."""
    ids, wanted = got["ref"], outcome["ref"]
    return bool(got["sni"] == outcome["sni"] and ids[:1] == wanted[:1] and set(ids) == set(wanted))


# --- Fetch ---

_CERTIFICATE_CODES: Final = {
    "valid": None,
    "expired": 10,
    "not-yet-valid": 9,
    "self-signed": 18,
    "untrusted": 20,
    "wrong-name": 62,
    "mismatch": 62,
    "cn-only": 62,
}
"""OpenSSL's number for what a vector says of the policy host's certificate."""

_BODIES: Final = {
    **dict.fromkeys(("valid policy", "valid"), True),
    **dict.fromkeys(("invalid policy", "invalid", "broken", "html", "empty", ""), False),
}


_FETCH_ALIASES: Final = {
    "content-type": "ct",
    "content_type": "ct",
    "content-encoding": "ce",
    "content_encoding": "ce",
    "encoding": "ce",
    "content-length": "cl",
    "content_length": "cl",
    "location": "loc",
}


def _run_fetch(given: Any) -> str:
    given = _rename(given, _FETCH_ALIASES)
    # `loc` makes no difference, and must not.
    _check_members(given, ("status", "ct", "ce", "loc", "body", "size", "cl", "cert", "scheme"))
    if given.get("scheme", "https") != "https":
        return "fail"
    code = _word(_CERTIFICATE_CODES, given.get("cert", "valid"), "certificate")
    if code is not None:
        judge_certificate_error(code, given["cert"])
        return "fail"
    failure = judge_response(given["status"], given.get("ct"), given.get("ce"))
    if failure is None and ("size" in given or "cl" in given):
        size = given.get("size", 0)
        failure = judge_length(size, given.get("cl", size))
    if failure is None and "body" in given:
        return "ok" if _is_policy_body(given["body"]) else "fail"
    return "ok" if failure is None else "fail"


def _is_policy_body(body: Any) -> bool:
    """Whether a body is a policy: told in words, or given itself."""
    if isinstance(body, Mapping) or "\n" in body:
        return isinstance(judge_body(_octets(body)), FetchedPolicy)
    return bool(_word(_BODIES, body, "body"))


# --- Delivery ---

_NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
_DOMAIN: Final = "rcpt.example"
"""The recipient's domain, where a vector does not name it."""

_CACHED_ID: Final = "1"
_SEEN_IDS: Final = {
    **dict.fromkeys(("valid", "same", "same id", "old id", "unchanged"), _CACHED_ID),
    **dict.fromkeys(("new", "new id", "changed"), "2"),
    **dict.fromkeys(("nxdomain", "nodata", "absent", "missing", "none", "blocked"), None),
    **dict.fromkeys(("servfail", "timeout", "bogus", "error", "fail"), None),
    **dict.fromkeys(("broken", "malformed", "invalid", "two", "several", "two records"), None),
}

_FETCH_FAILURES: Final = {
    **dict.fromkeys(("fail", "error", "blocked"), ("connect", "no connection")),
    **dict.fromkeys(("timeout", "slow"), ("timeout", "too slow")),
    "redirect": ("redirect", "a redirect"),
    **dict.fromkeys(("404", "500", "503"), ("http-status", "not 200")),
    "html": ("media-type", "not text/plain"),
    "too large": ("too-large", "too large"),
    **dict.fromkeys(
        ("bad cert", "expired", "self-signed", "wrong-name"), ("certificate-untrusted", "PKIX")
    ),
    **dict.fromkeys(("invalid", "broken", "malformed", "syntax"), ("syntax", "no policy")),
}

_CERTIFICATES: Final = {
    "valid": Certificate.VALID,
    **dict.fromkeys(("expired", "not-yet-valid"), Certificate.EXPIRED),
    **dict.fromkeys(
        ("self-signed", "untrusted", "private-ca", "unknown-ca", "missing-intermediate", "revoked"),
        Certificate.UNTRUSTED,
    ),
    **dict.fromkeys(
        ("wrong-name", "mismatch", "name-mismatch", "other-name", "cn-only", "domain-only"),
        Certificate.WRONG_NAME,
    ),
}

_DANES: Final = {
    **dict.fromkeys(("match", "valid", "ok"), Dane.MATCH),
    **dict.fromkeys(("mismatch", "fail"), Dane.MISMATCH),
    **dict.fromkeys(("unusable", "malformed"), Dane.UNUSABLE),
    **dict.fromkeys(("bogus", "servfail", "timeout", "error", "lookup-error"), Dane.ERROR),
    **dict.fromkeys(("none", "absent", "nodata", "nxdomain", "insecure"), Dane.ABSENT),
}

_HANDSHAKES: Final[Mapping[Any, Handshake]] = {
    True: Handshake.DONE,
    False: Handshake.NO_STARTTLS,
    **dict.fromkeys(("yes", "1.2", "1.3", "TLSv1.2", "TLSv1.3"), Handshake.DONE),
    **dict.fromkeys(("no", "stripped", "454", "refused"), Handshake.NO_STARTTLS),
    **dict.fromkeys(("fail", "broken", "handshake-failure", "error"), Handshake.FAILED),
    **dict.fromkeys(("1.0", "1.1", "TLSv1.0", "TLSv1.1"), Handshake.OUTDATED),
}

_REJECTIONS: Final[Mapping[Any, bool]] = {"ok": False, 250: False, 550: True}

_MX_WORDS: Final = {
    **dict.fromkeys(("servfail", "timeout", "bogus", "error"), MxStatus.ERROR),
    "null": MxStatus.NULL,
    "nxdomain": MxStatus.NXDOMAIN,
    **dict.fromkeys(("nodata", "none", "absent"), MxStatus.IMPLICIT),
}

_POLICY_MEMBERS: Final = ("mode", "max_age", "mx")


def _run_deliver(given: Any) -> Delivery:
    _check_members(given, ("cache", "txt", "https", "mx", "a_of_domain", "domain", "mx_secure"))
    domain = given.get("domain", _DOMAIN)
    entry = _cached_entry(given.get("cache"), domain)
    policy = settle_policy(
        entry,
        policy_domain=domain,
        seen_id=_seen_id(given, entry),
        fetched=_fetched(given.get("https", "fail"), given.get("cache")),
        now=_NOW,
    )
    status, hosts = _mx_set(given, domain)
    # The format says so: where DANE is known, the lookups before it were secure.
    secure = given.get("mx_secure", any(host.dane is not Dane.ABSENT for host in hosts))
    return attempt_delivery(policy, hosts, mx_status=status, mx_secure=secure)


def _cached_entry(cache: Any, domain: str) -> PolicyEntry | None:
    if cache is None:
        return None
    _check_members(cache, (*_POLICY_MEMBERS, "age", "id"))
    fetched = _fetched({key: cache[key] for key in _POLICY_MEMBERS if key in cache})
    if isinstance(fetched, FetchFailure):
        raise VectorError(f"no policy that could be cached: {fetched.reason}")
    return apply_fetched(
        None,
        policy_domain=domain,
        policy_id=cache.get("id", _CACHED_ID),
        fetched=fetched,
        now=_NOW - timedelta(seconds=cache["age"]),
        txt_ttl_seconds=0,
        jitter=0,
    )


def _seen_id(given: Mapping[str, Any], entry: PolicyEntry | None) -> str | None:
    txt = given.get("txt", "same" if entry else "absent")
    if isinstance(txt, Mapping):
        _check_members(txt, ("id",))
        return str(txt["id"])
    if isinstance(txt, Sequence) and not isinstance(txt, str):
        return _run_sts_txt(txt)
    seen = _word(_SEEN_IDS, txt, "TXT outcome")
    return entry.policy_id if entry and seen == _CACHED_ID else seen


def _fetched(https: Any, cache: Any = None) -> FetchedPolicy | FetchFailure:
    if https in ("ok", "same", "unchanged") and cache is not None:
        return _fetched({key: cache[key] for key in _POLICY_MEMBERS if key in cache})
    if isinstance(https, Mapping) and "status" in https:
        _check_members(https, ("status", "ct", "ce", "loc", "body"))
        failure = judge_response(https["status"], https.get("ct", "text/plain"), https.get("ce"))
        return failure or judge_body(_octets(https["body"]))
    if isinstance(https, Mapping) and "body" in https:
        _check_members(https, ("body",))
        return judge_body(_octets(https["body"]))
    if isinstance(https, Mapping):
        _check_members(https, _POLICY_MEMBERS)
        lines = ["version: STSv1", f"mode: {https['mode']}", f"max_age: {https['max_age']}"]
        lines += [f"mx: {pattern}" for pattern in https.get("mx", ())]
        return judge_body("\n".join(lines).encode())
    code, reason = _word(_FETCH_FAILURES, str(https), "HTTPS outcome")
    return FetchFailure(ResultType.STS_POLICY_FETCH_ERROR, reason, code)


def _mx_set(given: Mapping[str, Any], domain: str) -> tuple[MxStatus, list[HostState]]:
    mx = given.get("mx")
    if isinstance(mx, str):
        status = _word(_MX_WORDS, mx, "MX outcome")
        return status, _implicit(given, domain) if status is MxStatus.IMPLICIT else []
    if not mx:
        return MxStatus.IMPLICIT, _implicit(given, domain)
    hosts = [_host(host) for host in mx]
    if [host.name for host in hosts] == ["."]:
        return MxStatus.NULL, []
    # RFC 7505 §3: a null MX among others is against the rules, and ignored (STS-APP-15).
    return MxStatus.FOUND, [host for host in hosts if host.name != "."]


def _implicit(given: Mapping[str, Any], domain: str) -> list[HostState]:
    """The domain itself, if it has an address; a mapping says what is found there."""
    found = given.get("a_of_domain", "present")
    if isinstance(found, Mapping):
        return [_host({"n": domain, **found})]
    return [HostState(domain, reachable=_word({"present": True, "absent": False}, found, "A"))]


_HOST_ALIASES: Final = {"name": "n", "host": "n", "up": "reachable", "unreachable": "down"}


def _host(raw: Mapping[str, Any]) -> HostState:
    host = _rename(raw, _HOST_ALIASES)
    _check_members(
        host, ("n", "pref", "starttls", "tls", "cert", "dane", "down", "reachable", "self", "rcpt")
    )
    handshake = _word(_HANDSHAKES, host.get("starttls", True), "STARTTLS")
    if handshake is Handshake.DONE:
        handshake = _word(_HANDSHAKES, host.get("tls", True), "TLS")
    return HostState(
        name=host["n"],
        reachable=host.get("reachable", True) and not host.get("down", False),
        handshake=handshake,
        certificate=_certificate(host["n"], host.get("cert", "valid")),
        dane=_word(_DANES, host.get("dane") or "absent", "DANE"),
        rejects=_word(_REJECTIONS, host.get("rcpt", "ok"), "RCPT"),
        is_self=host.get("self", False),
    )


def _certificate(mx_host: str, cert: Any) -> Certificate:
    if isinstance(cert, Mapping):
        _check_members(cert, ("san", "cn"))
        named = match_certificate(
            CertContext.MTA_STS_MX, [mx_host], cert.get("san", ()), cert.get("cn")
        )
        return Certificate.VALID if named else Certificate.WRONG_NAME
    return _word(_CERTIFICATES, cert, "certificate")


_OUTCOMES: Final = {
    "deliver": Outcome.DELIVER,
    **dict.fromkeys(("defer", "delay", "queue"), Outcome.DEFER),
    **dict.fromkeys(("bounce", "reject"), Outcome.BOUNCE),
}

_SESSION_WORDS: Final = {
    "tls-verified": (Session.PKIX, Session.DANE),
    "tls-pkix": (Session.PKIX,),
    **dict.fromkeys(("tls-dane", "dane", "dane-verified"), (Session.DANE,)),
    **dict.fromkeys(("tls-noauth", "tls-unverified"), (Session.ENCRYPTED,)),
    "tls": (Session.ENCRYPTED, Session.PKIX, Session.DANE),
    **dict.fromkeys(("clear", "cleartext", "plaintext"), (Session.CLEAR,)),
    "opportunistic": (Session.CLEAR, Session.ENCRYPTED),
}


def _accepts_delivery(got: Delivery, outcome: str) -> bool:
    """Compare with `deliver HOST [SESSION]`, `defer` or `bounce`, and `; report ...` behind it."""
    result, *reports = (clause.strip() for clause in outcome.split(";"))
    word, *details = result.split()
    if _word(_OUTCOMES, word, "outcome") is not got.outcome:
        return False
    if got.outcome is Outcome.DELIVER:
        if not details or details[0] != got.host:
            return False
        details = details[1:]
    sessions = [_word(_SESSION_WORDS, detail, "session") for detail in details]
    return all(got.session in allowed for allowed in sessions) and all(
        _accepts_report(got, report) for report in reports
    )


def _accepts_report(got: Delivery, clause: str) -> bool:
    sts = any(failure.policy_type is PolicyType.STS for failure in got.failures)
    tlsa = any(failure.policy_type is PolicyType.TLSA for failure in got.failures)
    known = {
        "report failure": sts or tlsa,
        "report sts failure": sts,
        "report tlsa failure": tlsa,
        "no report": not (sts or tlsa),
        "no report of failure": not (sts or tlsa),
        "no report of sts failure": not sts,
        "no report of tlsa failure": not tlsa,
        **{f"report {kind}": _has_failure(got, kind) for kind in ResultType},
        **{f"no report of {kind}": not _has_failure(got, kind) for kind in ResultType},
    }
    return _word(known, clause, "report")


def _has_failure(got: Delivery, result_type: ResultType) -> bool:
    return any(failure.result_type is result_type for failure in got.failures)


def _show_delivery(got: Delivery) -> str:
    words = [got.outcome, got.host, "" if got.session is Session.NONE else got.session.value]
    clauses = [" ".join(filter(None, words))]
    clauses += [
        f"report {failure.policy_type} {failure.result_type} at {failure.mx_host}"
        for failure in got.failures
    ]
    return "; ".join(clauses)


# --- All of them ---

RUNNERS: Final[Mapping[str, Runner]] = {
    "sts-txt": Runner(_run_sts_txt),
    "id-changed": Runner(_run_id_changed),
    "sts-policy": Runner(_run_sts_policy, _accepts_policy),
    "tlsrpt-txt": Runner(_run_tlsrpt_txt),
    "rpt-file": Runner(vectorreports.run_file),
    "rpt-file-build": Runner(vectorreports.run_file_build),
    "rpt-subject": Runner(vectorreports.run_subject),
    "rpt-json": Runner(vectorreports.run_json, vectorreports.accepts_json),
    "rpt-type": Runner(vectorreports.run_type),
    "tls-required": Runner(vectorreports.run_tls_required),
    "mx-match": Runner(_run_mx_match),
    "cert-match": Runner(_run_cert_match),
    "tlsa-usable": Runner(_run_tlsa_usable),
    "tlsa-qname": Runner(_run_tlsa_qname),
    "dane-act": Runner(_run_dane_act),
    "dane-agility": Runner(_run_dane_agility),
    "dane-names": Runner(_run_dane_names, _accepts_names),
    "fetch": Runner(_run_fetch),
    "deliver": Runner(_run_deliver, _accepts_delivery, _show_delivery),
}
"""The classes that can be run."""


def _word(table: Mapping[Any, _T], word: Any, what: str) -> _T:
    """Translate a word of a vector; one that nobody has thought of is a failure."""
    spellings = [word]
    if isinstance(word, str):
        plain = word.lower().replace("_", " ")
        spellings += [plain, plain.replace(" ", "-"), plain.replace("-", " ")]
    for spelling in spellings:
        if spelling in table:
            return table[spelling]
    raise VectorError(f"unknown {what}: {word!r}")


def _rename(given: Any, aliases: Mapping[str, str]) -> dict[str, Any]:
    """The members of an object under their usual names."""
    if not isinstance(given, Mapping):
        raise VectorError(f"no object: {given!r}")
    return {aliases.get(name, name): value for name, value in given.items()}


def _check_members(given: Any, known: Iterable[str]) -> None:
    if not isinstance(given, Mapping):
        raise VectorError(f"no object: {given!r}")
    unknown = set(given).difference(known)
    if unknown:
        raise VectorError(f"unknown members: {', '.join(sorted(unknown))}")


def _given(raw: Mapping[str, Any], content: Mapping[str, Any]) -> Any:
    """The input of a vector; a change of a report goes with the report."""
    if raw["c"] == "rpt-json":
        return {**raw["in"], "base_report": content["base_report"]}
    return raw["in"]


def load_vectors(path: Path) -> tuple[list[Vector], frozenset[str]]:
    """Read a vector file.

    Returns:
        The vectors in order, and every class that the file knows of.

    Raises:
        VectorFileError: Not readable, not JSON, or not of this form.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
        vectors = [
            Vector(
                vector_id=str(raw["v"]),
                vector_class=str(raw["c"]),
                requirement=str(raw["req"]),
                given=_given(raw, content),
                outcomes=_outcomes(raw),
            )
            for raw in content["vectors"]
        ]
        described = set(content.get("format", {})) - {"det"}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise VectorFileError(f"{path}: {error}") from error
    except KeyError as error:
        raise VectorFileError(f"{path}: a vector or the file lacks {error}") from error
    return vectors, frozenset(described.union(vector.vector_class for vector in vectors))


def _outcomes(raw: Mapping[str, Any]) -> tuple[Any, ...]:
    if raw.get("det") == "lenient-ok":
        return (raw["out"], *raw.get("alt", ()))
    return (raw["out"],)


def run_vector(vector: Vector) -> Verdict:
    """Run one vector of a class in RUNNERS."""
    runner = RUNNERS[vector.vector_class]
    try:
        got = runner.run(vector.given)
        passed = any(runner.accepts(got, outcome) for outcome in vector.outcomes)
        return Verdict(vector, passed, runner.show(got))
    except VectorError as error:
        return Verdict(vector, passed=False, got=f"cannot be run: {error}")
    except (LookupError, TypeError, ValueError, AttributeError, binascii.Error) as error:
        return Verdict(vector, passed=False, got=f"cannot be run: {type(error).__name__}: {error}")


def report(vectors: Iterable[Vector], wanted: Collection[str]) -> bool:
    """Run the vectors of the wanted classes, print what failed; whether nothing did."""
    counts = {True: 0, False: 0}
    not_run: dict[str, int] = {}
    for vector in vectors:
        if vector.vector_class not in wanted:
            continue
        if vector.vector_class not in RUNNERS:
            not_run[vector.vector_class] = not_run.get(vector.vector_class, 0) + 1
            continue
        verdict = run_vector(vector)
        counts[verdict.passed] += 1
        if not verdict.passed:
            expected = " or ".join(json.dumps(outcome) for outcome in vector.outcomes)
            print(f"FAIL {vector.vector_id} ({vector.requirement}): expected {expected}")
            print(f"     got {verdict.got}")
    if not_run:
        listed = ", ".join(f"{name} ({count})" for name, count in sorted(not_run.items()))
        print(f"not run, since no runner exists: {listed}")
    print(f"{counts[True]} passed, {counts[False]} failed")
    return not counts[False]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m strictmail.vectors", description="Run a vector file against the core."
    )
    parser.add_argument("file", type=Path, help="a vector file")
    parser.add_argument("--classes", default="", help="run only these, separated by commas")
    arguments = parser.parse_args(argv)
    try:
        vectors, described = load_vectors(arguments.file)
    except VectorFileError as error:
        print(f"vectors: {error}", file=sys.stderr)
        return 2
    known = described.union(RUNNERS)
    wanted = {name.strip() for name in arguments.classes.split(",") if name.strip()} or known
    if not known.issuperset(wanted):
        unknown = ", ".join(sorted(wanted - known))
        print(f"vectors: no such class: {unknown}; there are {', '.join(sorted(known))}")
        return 2
    return 0 if report(vectors, wanted) else 1


if __name__ == "__main__":
    raise SystemExit(main())
