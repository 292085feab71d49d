# SPDX-License-Identifier: Apache-2.0
"""The datagram in which Postfix 3.10 and later (through libtlsrpt) tells of one SMTP session.

One JSON object, no terminator::

    {"dpv":"1", "d": recipient domain, "pr": text of its TLSRPT record,
     "policies": [{"policy-type": 1|2|9, "policy-domain": .., "policy-string": [..],
                   "mx-host": [..], "failure-details": [{"c": code, "s": sending IP, "n": MX name,
                   "h": EHLO reply, "r": receiving IP, "a": information, "f": reason}],
                   "t": how many details, "f": 1 = the session failed}]}

libtlsrpt 0.5.0 sends no `dpv`. Whoever may write to the socket can send anything: what cannot be
counted is a DatagramError with a reason, never anything worse.

=================================  ===============================================================
what comes                         what is made of it
=================================  ===============================================================
unknown members                    passed over
unknown `dpv`                      DatagramError: its counts could mean something else
unknown policy type                that policy is passed over; with no other left, DatagramError
unknown failure code               `validation-failure`, the code as reason if no other is given
code 901 (policy not finished)     that policy is passed over: nobody judged the session by it
octets that are no UTF-8           what a server says of itself must not cost the count: replaced
no `policy-domain`, or none        the recipient domain (RPT-JSON-16)
a policy of mode `none`            no policy (RPT-JSON-58)
success under a testing policy,    unverified: at the levels that a testing policy is answered
or one whose mode is not said      with, Postfix verifies nothing (a probe may: `probeverdict`)
success with details left over     a success: the details say what was tried before
failure without details            a failure without details
no policy, and a certificate that  a success: TLS was negotiated, and nobody asked for more; at
is not good                        `smtp_tls_loglevel = untrusted`, Postfix calls it a failure
failure of discovery, mode `none`  passed over (RPT-JSON-43): with no other one, a success
=================================  ===============================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from strictmail.core.errors import DatagramError, DomainSyntaxError
from strictmail.core.tagrecord import quote
from strictmail.core.tlsrpt.results import (
    POLICY_TYPE_CODES,
    RESULT_CODES,
    UNFINISHED_POLICY_CODE,
    PolicyType,
    ResultType,
)
from strictmail.core.tlsrpt.session import (
    MAX_REASON_CHARACTERS,
    FailureDetail,
    JudgedPolicy,
    ReportedPolicy,
    Session,
    clean_text,
    make_detail,
    make_policy,
    policy_mode,
    report_domain,
)

if TYPE_CHECKING:
    from strictmail.core.names import Domain

MAX_DATAGRAM_BYTES: Final = 212_992
"""The kernel's default for one datagram on a unix socket (net.core.wmem_default)."""

MAX_POLICIES: Final = 64
"""Policies of one session: a host has one `tlsa` or `sts` entry, a delivery a few hosts."""

MAX_DETAILS: Final = 64
"""Details of one policy."""

MAX_RECORD_CHARACTERS: Final = 4096
"""Of the TLSRPT record's text; a longer one would not be kept (see `rua` of RFC 8460 §3)."""

VERSIONS: Final = ("", "1")
"""Values of `dpv` that are understood; none at all is libtlsrpt 0.5.0."""

_CHAIN_FAULTS: Final = (
    "self-signed_certificate",
    "unable_to_get_issuer_certificate",
    "unable_to_get_local_issuer_certificate",
    "unable_to_verify_the_first_certificate",
    "certificate_not_trusted",
    "certificate_rejected",
    "certificate_chain_too_long",
    "invalid_CA_certificate",
)
"""How reasons begin that OpenSSL gives for a chain that leads to no trusted root."""


_DISCOVERY_CODES: Final = frozenset(
    code for code, result_type in RESULT_CODES.items() if result_type.startswith("sts-")
)
"""Failures to learn a policy, not to satisfy one."""


_CERTIFICATE_CODES: Final = frozenset({204})
"""Of faults that are seen where no name is asked for; a name is only compared on demand."""

_GENERAL_CODE: Final = 205
_HANDSHAKE_REASONS: Final = frozenset({"tls-handshake-failure"})
"""Postfix's word for a handshake that failed; else its reasons are OpenSSL's, of certificates."""


class _Detail(msgspec.Struct):
    c: int = 0
    s: str = ""
    n: str = ""
    h: str = ""
    r: str = ""
    a: str = ""
    f: str = ""


class _Policy(msgspec.Struct, rename="kebab"):
    policy_type: int
    policy_domain: str = ""
    policy_string: list[str] = []
    mx_host: list[str] = []
    failure_details: list[_Detail] = []
    t: int = 0
    f: int = 0


class _Datagram(msgspec.Struct):
    d: str
    policies: list[_Policy]
    pr: str = ""
    dpv: str | int = ""


_DECODER: Final = msgspec.json.Decoder(_Datagram)


def decode_datagram(data: bytes) -> Session:
    """Make a session of a datagram.

    Args:
        data: As it came from the socket.

    Raises:
        DatagramError: Nothing in it can be counted; `reason_code` says why.
    """
    datagram = _decode(data)
    if str(datagram.dpv) not in VERSIONS:
        raise DatagramError(
            f"datagram version {quote(str(datagram.dpv))} is not known: this strictmail counts "
            "version 1",
            reason_code="version",
        )
    domain = _parse_domain(datagram.d)
    judged: list[JudgedPolicy] = []
    unverified: list[ReportedPolicy] = []
    for policy in datagram.policies[:MAX_POLICIES]:
        _judge(policy, domain, judged, unverified)
    if not judged and not unverified:
        raise DatagramError("no policy that is known", reason_code="no-policy")
    return Session(
        domain=domain,
        record=datagram.pr[:MAX_RECORD_CHARACTERS],
        policies=tuple(judged),
        unverified=tuple(unverified),
    )


def _decode(data: bytes) -> _Datagram:
    if not data:
        raise DatagramError("an empty datagram", reason_code="empty")
    if len(data) > MAX_DATAGRAM_BYTES:
        raise DatagramError(
            f"a datagram of more than {MAX_DATAGRAM_BYTES} octets", reason_code="too-large"
        )
    try:
        return _decode_json(data)
    except msgspec.ValidationError as error:
        raise DatagramError(
            f"not a TLSRPT datagram: {quote(str(error))}", reason_code="structure"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DatagramError(f"not JSON: {quote(str(error))}", reason_code="not-json") from error


def _decode_json(data: bytes) -> _Datagram:
    try:
        return _DECODER.decode(data)
    except UnicodeDecodeError:
        # An EHLO reply in Latin-1, say: whoever sends it must not get out of being counted.
        return _DECODER.decode(data.decode("utf-8", "replace").encode())


def _parse_domain(text: str) -> Domain:
    try:
        return report_domain(text)
    except DomainSyntaxError as error:
        raise DatagramError(
            f"{quote(text)} is no domain: {error}", reason_code="domain", text=text
        ) from error


def _judge(
    policy: _Policy,
    domain: Domain,
    judged: list[JudgedPolicy],
    unverified: list[ReportedPolicy],
) -> None:
    policy_type = POLICY_TYPE_CODES.get(policy.policy_type)
    if policy_type is None or any(d.c == UNFINISHED_POLICY_CODE for d in policy.failure_details):
        return
    reported = make_policy(
        policy_type, policy.policy_domain, policy.policy_string, policy.mx_host, domain=domain
    )
    details = policy.failure_details[:MAX_DETAILS]
    succeeded = policy.f == 0
    if policy_type is PolicyType.STS and reported.policy_type is PolicyType.NO_POLICY_FOUND:
        # RFC 8461 §6: with mode `none`, nobody misses a newer policy (RPT-JSON-43, RPT-JSON-58).
        kept = [detail for detail in details if detail.c not in _DISCOVERY_CODES]
        succeeded = succeeded or (bool(details) and not kept)
        details = kept
    if policy_type is PolicyType.NO_POLICY_FOUND and details:
        # RFC 8460 §4.2.1: without a policy, TLS is success enough (RPT-JSON-24).
        succeeded = succeeded or all(map(_is_certificate_fault, details))
    if succeeded:
        if (
            reported.policy_type is PolicyType.STS
            and policy_mode(reported.policy_strings) != "enforce"
        ):
            # RFC 8460 §4.2.1: a success is a session that satisfied the policy, which nobody
            # looked at here (RPT-JSON-24). Spec-silent: without a mode, nobody knows if one did.
            unverified.append(reported)
        else:
            judged.append(JudgedPolicy(reported, succeeded=True))
        return
    # RFC 8461 §5: a failure under a testing policy is a failure (RPT-JSON-26). RFC 8461 §6: of the
    # session, or of learning the policy, be there one or none (RPT-JSON-42, RPT-JSON-44).
    judged.append(
        JudgedPolicy(reported, succeeded=False, failures=tuple(map(_read_detail, details)))
    )


def _is_certificate_fault(detail: _Detail) -> bool:
    """Whether TLS was negotiated, and it is the certificate that is not good."""
    if detail.c == _GENERAL_CODE:
        return bool(detail.f) and detail.f not in _HANDSHAKE_REASONS
    return detail.c in _CERTIFICATE_CODES


def is_testing(policy: ReportedPolicy) -> bool:
    """Whether a policy is an MTA-STS policy in testing mode."""
    is_sts = policy.policy_type is PolicyType.STS
    return is_sts and policy_mode(policy.policy_strings) == "testing"


def _read_detail(detail: _Detail) -> FailureDetail:
    result_type = RESULT_CODES.get(detail.c)
    reason = clean_text(detail.f, MAX_REASON_CHARACTERS)
    if result_type is ResultType.VALIDATION_FAILURE and reason.startswith(_CHAIN_FAULTS):
        # RFC 8460 §4.3.1: chain faults have a type of their own, which Postfix does not use: it
        # gives the general code and OpenSSL's words (RPT-JSON-34).
        result_type = ResultType.CERTIFICATE_NOT_TRUSTED
    if result_type is None:
        # RFC 8460 §4.3.1: anything else is a validation-failure (RPT-JSON-35).
        result_type = ResultType.VALIDATION_FAILURE
        reason = reason or f"code {detail.c}"
    return make_detail(
        result_type,
        sending_mta_ip=detail.s,
        receiving_mx_hostname=detail.n,
        receiving_mx_helo=detail.h,
        receiving_ip=detail.r,
        additional_information=detail.a,
        failure_reason_code=reason,
    )
