# SPDX-License-Identifier: Apache-2.0
"""What one SMTP session showed, as values: the unit that TLS reports count (RFC 8460 §4).

A session is judged under one or more policies; each judgement counts once, as a success or as a
failure, under its policy (RFC 8460 §4.4). Details of a failure are normalised here, before
anything is counted: what a remote party can choose freely is cut, cleaned and bounded, so that
nobody can make a report grow without end.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from strictmail.core.errors import DomainSyntaxError
from strictmail.core.names import fold, is_address, is_ldh_domain, parse_domain
from strictmail.core.tlsrpt.results import PolicyType

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from strictmail.core.names import Domain
    from strictmail.core.tlsrpt.results import ResultType

MAX_NAME_CHARACTERS: Final = 255
"""Of a host or HELO name: RFC 5321 §4.5.3.1.2."""

MAX_REASON_CHARACTERS: Final = 128
"""Of a reason code: RFC 8460 §4.3.3 wants a short code or text."""

MAX_INFORMATION_CHARACTERS: Final = 512
"""Of additional information."""

MAX_POLICY_LINES: Final = 4096
"""Lines of a policy, or TLSA records, that are quoted."""

MAX_LINE_CHARACTERS: Final = 8192
"""Of each of them: a TLSA record may hold a whole certificate in hexadecimal."""

MAX_POLICY_CHARACTERS: Final = 65_536
"""Of all of them: RFC 8461 §3.3 suggests as much for a whole policy."""

MAX_MX_PATTERNS: Final = 4096

WSP: Final = " \t"

_LAST_OF_PLANES: Final = "".join(
    chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF)
)
"""Noncharacters, as U+FDD0 to U+FDEF are."""

NO_CHARACTER: Final = re.compile(
    f"[\0-\x08\n-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef{_LAST_OF_PLANES}]"
)
"""What stands in no line of a policy, tab apart, and in no text of a report: RFC 7493 §2.1."""

_ADDR_SPEC: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+@([A-Za-z0-9._-]+)")
"""RFC 5322 §3.4.1 without quoted local parts and comments, which nobody uses for contacts."""

IPV4: Final = re.compile(r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(?:\.(?!$)|$)){4}")
"""An IPv4 address in its one form: found much faster than by `ipaddress`."""

_TLSA: Final = re.compile(r"(\d+)\s+(\d+)\s+(\d+)\s+([0-9A-Fa-f\s()]+)", re.ASCII)


class Source(enum.StrEnum):
    """Who saw a session, or judged it: nothing is counted from two of them."""

    POSTFIX = "postfix"
    """A datagram of libtlsrpt."""
    LOG = "log"
    """A line of Postfix's log."""
    HTTP = "http"
    """`POST /v1/session`."""
    PYTHON = "python"
    PROBE = "probe"
    """A visit of our own to the MX hosts, which says what a session that somebody else told of was
    worth: it tells of none itself."""


@dataclass(frozen=True, slots=True)
class ReportedPolicy:
    """A policy that sessions were judged under: the key of their totals.

    Attributes:
        policy_type: Which kind.
        policy_domain: A-labels, lower case; for `tlsa` the TLSA base domain (C-10).
        policy_strings: For `sts` the lines as served, for `tlsa` the records.
        mx_host_patterns: For `sts`, the bare patterns.
    """

    policy_type: PolicyType
    policy_domain: str
    policy_strings: tuple[str, ...] = ()
    mx_host_patterns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FailureDetail:
    """How a session failed: the key of a detail (RFC 8460 §4.4); "" for what is not known.

    Attributes:
        result_type: A registered type.
        sending_mta_ip: RFC 5952 or dotted text.
        receiving_mx_hostname: The MX host that was used, A-labels.
        receiving_mx_helo: The name it gave itself.
        receiving_ip: Its address.
        additional_information: A URI or text.
        failure_reason_code: A short code or text.
    """

    result_type: ResultType
    sending_mta_ip: str = ""
    receiving_mx_hostname: str = ""
    receiving_mx_helo: str = ""
    receiving_ip: str = ""
    additional_information: str = ""
    failure_reason_code: str = ""

    def without_free_text(self) -> FailureDetail:
        """The same with everything dropped that a remote party can vary at will."""
        return replace(
            self, receiving_mx_helo="", additional_information="", failure_reason_code=""
        )


@dataclass(frozen=True, slots=True)
class JudgedPolicy:
    """A session under one policy.

    Attributes:
        policy: Which.
        succeeded: It satisfied the policy; with `no-policy-found`, TLS was negotiated.
        failures: Why it did not; only with `succeeded` False.
    """

    policy: ReportedPolicy
    succeeded: bool
    failures: tuple[FailureDetail, ...] = ()


@dataclass(frozen=True, slots=True)
class Session:
    """One SMTP session.

    Attributes:
        domain: The recipient (or smart host) domain, whose record asks for reports; A-labels.
        record: The text of that TXT record as the MTA saw it, "" if it did not say.
        policies: What it was judged under.
        unverified: Policies whose success nobody verified: counted apart, and reported only
            where a probe says more.
    """

    domain: str
    record: str
    policies: tuple[JudgedPolicy, ...]
    unverified: tuple[ReportedPolicy, ...] = ()


# ---- making them of foreign text ----------------------------------------------------------------


def make_policy(
    policy_type: PolicyType,
    policy_domain: str,
    policy_strings: Sequence[str] = (),
    mx_host_patterns: Sequence[str] = (),
    *,
    domain: str,
) -> ReportedPolicy:
    """A policy out of what somebody says, fit for a report.

    Args:
        policy_type: Which kind.
        policy_domain: Any text; what is no domain gives way to `domain`.
        policy_strings: Lines or records, as they came.
        mx_host_patterns: Bare patterns; `mx:` before them is taken off.
        domain: The recipient domain, A-labels.
    """
    lines = clean_lines(policy_strings)
    # RFC 8461 §5: a policy of mode none is as good as none (RPT-JSON-58).
    is_none = policy_type is PolicyType.STS and policy_mode(lines) == "none"
    if is_none:
        policy_type = PolicyType.NO_POLICY_FOUND
    try:
        # RFC 8460 §1.1: without one of its own, the recipient domain (RPT-JSON-16, RPT-JSON-17).
        owner = domain if policy_domain == domain else report_domain(policy_domain)
    except DomainSyntaxError:
        owner = parse_domain(domain)
    match policy_type:
        case PolicyType.NO_POLICY_FOUND:
            # Spec-silent: there is no policy to quote (RPT-JSON-14).
            return ReportedPolicy(policy_type, owner)
        case PolicyType.TLSA:
            # A resolver hands out records in any order: the same ones are the same policy.
            records = tuple(sorted(map(clean_tlsa, lines)))
            return ReportedPolicy(policy_type, owner, records)
        case PolicyType.STS:
            # RFC 8460 §4.4: bare patterns, and only of an MTA-STS policy (RPT-JSON-18, -19, -20);
            # they are in its lines, should nobody give them apart.
            given = map(clean_pattern, mx_host_patterns[:MAX_MX_PATTERNS])
            patterns = tuple(filter(None, given)) or policy_patterns(lines)
            return ReportedPolicy(policy_type, owner, lines, patterns)


def make_detail(
    result_type: ResultType,
    *,
    sending_mta_ip: str = "",
    receiving_mx_hostname: str = "",
    receiving_mx_helo: str = "",
    receiving_ip: str = "",
    additional_information: str = "",
    failure_reason_code: str = "",
) -> FailureDetail:
    """A failure detail out of what somebody says, fit for a report; see `FailureDetail`."""
    # RFC 8460 §4.4: a URI; Postfix has words there at times (RPT-JSON-50).
    return FailureDetail(
        result_type=result_type,
        sending_mta_ip=clean_address(sending_mta_ip),
        receiving_mx_hostname=clean_name(receiving_mx_hostname),
        receiving_mx_helo=clean_helo(receiving_mx_helo),
        receiving_ip=clean_address(receiving_ip),
        additional_information=clean_text(additional_information, MAX_INFORMATION_CHARACTERS),
        failure_reason_code=clean_text(failure_reason_code, MAX_REASON_CHARACTERS),
    )


def report_domain(text: str) -> Domain:
    """A recipient or policy domain, as reports, file names and headers have it.

    Raises:
        DomainSyntaxError: It is none that mail is sent to: nothing can be reported to it.

    Spec: RFC 8460 §4.4.
    """
    # RFC 8460 §4.4: A-labels; an MTA gives the case as it was typed (RPT-JSON-15).
    domain = parse_domain(text)
    if not is_mail_domain(domain):
        raise DomainSyntaxError("a label has no hyphen at either end", text=text)
    return domain


def is_mail_domain(text: str) -> bool:
    """Whether a text is a domain in A-labels, in any case, that mail can be sent to."""
    # Underscores occur in mail domains, although RFC 5321 §4.1.2 has no place for them.
    return is_ldh_domain(text.replace("_", "a"))


def is_addr_spec(text: str) -> bool:
    """Whether a text is an address that may be a contact: no scheme, no display name."""
    found = _ADDR_SPEC.fullmatch(text)
    if found is None:
        return False
    local = text[: found.start(1) - 1]
    dots = local.startswith(".") or local.endswith(".") or ".." in local
    return not dots and is_mail_domain(found[1])


def policy_mode(lines: Iterable[str]) -> str:
    """The mode that an MTA-STS policy has, as its text says it; "" if it does not.

    Spec: RFC 8461 §3.2.
    """
    for line in lines:
        name, colon, value = line.partition(":")
        if colon and name.strip(WSP) == "mode":
            # RFC 8461 §3.2: of a repeated field the first counts.
            return value.strip(WSP)
    return ""


def policy_patterns(lines: Iterable[str]) -> tuple[str, ...]:
    """The bare patterns that an MTA-STS policy names, as its text says them.

    Spec: RFC 8461 §3.2.
    """
    fields = (line.partition(":") for line in lines)
    named = (value for name, colon, value in fields if colon and name.strip(WSP) == "mx")
    return tuple(filter(None, map(clean_pattern, named)))[:MAX_MX_PATTERNS]


def clean_lines(lines: Iterable[str]) -> tuple[str, ...]:
    """Lines of a policy as they were served, as far as text can carry them.

    Spec: RFC 8460 §4.5.
    """
    kept: list[str] = []
    room = MAX_POLICY_CHARACTERS
    for line in lines:
        # RFC 8460 §4.5: each an element, faults and all, without its end (RPT-JSON-12).
        text = line.rstrip("\r\n")[:MAX_LINE_CHARACTERS]
        if not text.isprintable():
            text = NO_CHARACTER.sub("\ufffd", text)
        room -= len(text)
        if room < 0 or len(kept) == MAX_POLICY_LINES:
            break
        kept.append(text)
    return tuple(kept)


def clean_tlsa(record: str) -> str:
    """A TLSA record in its one form: four fields, a blank between, no more; else as it is.

    Spec: RFC 8460 §4.5.
    """
    found = _TLSA.fullmatch(record.strip())
    if found is None:
        return record
    # RFC 8460 §4.5: no white space or parentheses inside the data (RPT-JSON-13).
    data = re.sub(r"[\s()]+", "", found[4]).upper()
    return f"{found[1]} {found[2]} {found[3]} {data}" if data else record


def clean_text(text: str, limit: int) -> str:
    """One line of printable text: control characters and line ends become single blanks.

    Spec: RFC 8460 §4.3.3 (RPT-JSON-51).
    """
    # RFC 8460 §4.3.3: short; what a server says is cut before it is stored (RPT-JSON-51).
    shown = text[: 4 * limit]
    if not shown.isprintable():
        shown = "".join(c if c.isprintable() else " " for c in shown)
    return " ".join(shown.split())[:limit].rstrip()


def clean_name(text: str) -> str:
    """A host name as a report has it: A-labels, no trailing dot, lower case; "" for what is none.

    Spec: RFC 8460 §4.4.
    """
    try:
        # RFC 8460 §4.4: the name of the MX record (RPT-JSON-48).
        return parse_domain(text)
    except DomainSyntaxError:
        return ""


def clean_pattern(text: str) -> str:
    """A pattern of an MTA-STS policy, bare; as it was served, should it be no pattern."""
    bare = clean_text(text, MAX_NAME_CHARACTERS)
    # RFC 8460 §4.4: a pattern, not the line that it is in (RPT-JSON-19).
    while bare[:3].lower() == "mx:":
        bare = bare[3:].strip()
    star = "*." if bare.startswith("*.") else ""
    name = clean_name(bare.removeprefix("*."))
    return star + name if name else fold(bare)


def clean_address(text: str) -> str:
    """An address in its one form, or "" for what is none.

    Spec: RFC 8460 §4.4: dotted IPv4, or IPv6 after RFC 5952.
    """
    bare = text[:MAX_NAME_CHARACTERS].strip().removeprefix("[").removesuffix("]")
    bare = bare.removeprefix("IPv6:").partition("%")[0]
    if IPV4.fullmatch(bare):
        return "" if bare == "0.0.0.0" else bare  # noqa: S104 - nobody binds here
    if not is_address(bare):
        return ""
    address = ipaddress.ip_address(bare)
    # RFC 8460 §4.4: no IPv4-mapped form, no brackets, no zone (RPT-JSON-47); the address that
    # stands for none is left out (RPT-JSON-46).
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    plain = mapped or address
    return "" if plain.is_unspecified else str(plain)


def clean_helo(text: str) -> str:
    """The name that a server gave itself, out of a greeting or a whole EHLO reply.

    Postfix hands over the reply as it came, all its lines; what it offers is not its name.
    """
    first = text.lstrip().split("\n", 1)[0].strip()
    if first[:3].isascii() and first[:3].isdigit() and first[3:4] in ("-", " ", ""):
        first = first[4:]
    # RFC 8460 §4.4: the name, not the greeting behind it (RPT-JSON-49).
    word = first.split(maxsplit=1)[0] if first.strip() else ""
    return fold(clean_text(word, MAX_NAME_CHARACTERS))
