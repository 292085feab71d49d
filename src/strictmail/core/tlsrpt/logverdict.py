# SPDX-License-Identifier: Apache-2.0
"""What a session in Postfix's log was judged under, and how: the log's word, and the policies.

The log says what became of a session, not which policy asked for it. That is taken from what
strictmail itself knew: the policy in its cache at that time, and what DANE says of the host. Where
the two contradict each other, nothing is counted: neither a success nor a failure is guessed.

===========================  ============================  ========================================
the log says                 strictmail knew               counted as
===========================  ============================  ========================================
verified                     usable TLSA                   success under `tlsa`
verified                     enforce, or testing with the  success under `sts`
                             host on the policy
verified                     neither                       nothing: a demand of the operator's own
encrypted, unverified        TLSA, none usable             failure under `tlsa`, tlsa-invalid
encrypted, unverified        testing, host off the policy  failure under `sts`, validation-failure
.. untrusted, anonymous      testing                       failure under `sts`, by what was wrong
.. trusted                   testing                       unverified: nobody compared the name
encrypted, unverified        no policy                     success under `no-policy-found`
encrypted, unverified        enforce, or usable TLSA       nothing: something else was in force
certificate refused          usable TLSA; else enforce     failure of that, by what was wrong
no STARTTLS, no handshake    TLSA; else a policy; else     failure of that
                             none
clear text                   testing                       failure under `sts`
clear text                   no policy                     nothing: nor does Postfix tell of it
host off the policy          a policy                      failure under `sts`, validation-failure
no TLSA look-up              (the log is enough)           failure under `tlsa`, dnssec-invalid
no TLSA where it must be     (the log is enough)           failure under `tlsa`, dane-required
===========================  ============================  ========================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from strictmail.core.decision import Level
from strictmail.core.mta.postfixlog import LogOutcome
from strictmail.core.mxset import TlsaState
from strictmail.core.names import parse_domain
from strictmail.core.sts.match import match_any
from strictmail.core.sts.values import Mode
from strictmail.core.tlsrpt.results import PolicyType, ResultType
from strictmail.core.tlsrpt.session import JudgedPolicy, Session, make_detail, make_policy

if TYPE_CHECKING:
    from strictmail.core.decision import Decision, PolicyInfo
    from strictmail.core.mta.postfixlog import LoggedSession
    from strictmail.core.mxset import MxHost
    from strictmail.core.tlsrpt.session import FailureDetail, ReportedPolicy

_DANE_MISMATCH: Final = "no matching DANE TLSA records"
_HOST_MISMATCH: Final = "hostname mismatch"
_EXPIRED: Final = "certificate has expired"
_NOT_YET_VALID: Final = "certificate not yet valid"
OFF_POLICY_REASON: Final = "mx-host-not-in-policy"
HANDSHAKE_REASON: Final = "tls-handshake-failure"


_WITHOUT_POLICY: Final = {
    # RFC 8460 §4.3.2.1: no valid answer from a validating resolver (RPT-JSON-37).
    LogOutcome.TLSA_LOOKUP: ResultType.DNSSEC_INVALID,
    # RFC 8460 §4.3.2.1: DANE is demanded here, without records (RPT-JSON-38).
    LogOutcome.NO_TLSA: ResultType.DANE_REQUIRED,
}
_WITHOUT_TLS: Final = {
    # RFC 8460 §4.3.1: not offered, or offered and refused (RPT-JSON-31).
    LogOutcome.NO_STARTTLS: (ResultType.STARTTLS_NOT_SUPPORTED, ""),
    # RFC 8460 §4.3.1: no type of its own (RPT-JSON-35).
    LogOutcome.HANDSHAKE: (ResultType.VALIDATION_FAILURE, HANDSHAKE_REASON),
}


@dataclass(frozen=True, slots=True)
class NotCounted:
    """Why a session counts as nothing: a stable word."""

    reason: str


def judge_logged(logged: LoggedSession, decision: Decision) -> Session | NotCounted:
    """Judge a session.

    Args:
        logged: What the log proves.
        decision: What strictmail demands of this MTA for the domain: its policy is the one that
            was in force then, its MX set as it is known.

    Returns:
        The session, without a TLSRPT record; or why it counts as nothing.
    """
    if decision.override is not None:
        return NotCounted("override")
    return _Judge(logged, decision).judge()


class _Judge:
    """One session against one decision."""

    def __init__(self, logged: LoggedSession, decision: Decision) -> None:
        self._logged = logged
        self._policy = decision.policy
        self._level = decision.level
        hosts = decision.mx.hosts if decision.mx is not None else ()
        self._host = next((host for host in hosts if host.name == logged.mx_host), None)

    def judge(self) -> Session | NotCounted:
        outcome = self._logged.outcome
        if outcome in _WITHOUT_POLICY:
            return self._failed(self._bare_tlsa(), _WITHOUT_POLICY[outcome])
        if outcome in _WITHOUT_TLS:
            return self._failed(self._in_force(), *_WITHOUT_TLS[outcome])
        judges = {
            LogOutcome.OFF_POLICY: self._judge_off_policy,
            LogOutcome.VERIFIED: self._judge_verified,
            LogOutcome.CERTIFICATE: self._judge_refused,
            LogOutcome.CLEAR: self._judge_clear,
        }
        return judges.get(outcome, self._judge_encrypted)()

    # ---- which policy -------------------------------------------------------------------

    @property
    def _dane(self) -> TlsaState | None:
        """What DANE said of the host, if it was asked for: else None."""
        if self._level not in (Level.DANE, Level.DANE_ONLY) or self._host is None:
            return None
        state = self._host.tlsa_state
        return state if state in (TlsaState.USABLE, TlsaState.UNUSABLE) else None

    @property
    def _mode(self) -> Mode | None:
        """Of the policy that was known then; None for none, and for mode none."""
        policy = self._policy
        if policy is None or policy.mode is Mode.NONE:
            return None
        return policy.mode

    def _in_force(self) -> ReportedPolicy:
        """The policy that a session without TLS fails."""
        if self._dane is not None and self._host is not None:
            return self._tlsa(self._host)
        if self._mode is not None and self._policy is not None:
            return self._sts(self._policy)
        return self._none()

    def _tlsa(self, host: MxHost) -> ReportedPolicy:
        records = [str(record) for record in host.tlsa]
        return make_policy(
            PolicyType.TLSA,
            host.tlsa_base_domain or host.name,
            records,
            domain=self._logged.domain,
        )

    def _bare_tlsa(self) -> ReportedPolicy:
        return make_policy(PolicyType.TLSA, self._logged.mx_host, domain=self._logged.domain)

    def _sts(self, policy: PolicyInfo) -> ReportedPolicy:
        return make_policy(
            PolicyType.STS,
            self._logged.domain,
            policy.policy_strings,
            policy.mx_patterns,
            domain=self._logged.domain,
        )

    def _none(self) -> ReportedPolicy:
        domain = self._logged.domain
        return make_policy(PolicyType.NO_POLICY_FOUND, domain, domain=domain)

    # ---- how ----------------------------------------------------------------------------

    def _judge_off_policy(self) -> Session | NotCounted:
        if self._mode is None or self._policy is None:
            return NotCounted("no-policy-known")
        # RFC 8460 §4.3.1: a failure that has no type of its own (RPT-JSON-35).
        return self._failed(
            self._sts(self._policy), ResultType.VALIDATION_FAILURE, OFF_POLICY_REASON
        )

    def _judge_verified(self) -> Session | NotCounted:
        if self._dane is TlsaState.USABLE and self._host is not None:
            return self._succeeded(self._tlsa(self._host))
        policy = self._policy
        if policy is not None and self._dane is None:
            # RFC 8460 §4.2.1: Postfix has verified the certificate for a name that the policy
            # allows: satisfied, in testing mode as well (RPT-JSON-24).
            on_policy = match_any(self._logged.mx_host, policy.mx_patterns)
            if self._mode is Mode.ENFORCE or (self._mode is Mode.TESTING and on_policy):
                return self._succeeded(self._sts(policy))
        return NotCounted("verified-for-another-reason")

    def _judge_encrypted(self) -> Session | NotCounted:
        if self._dane is TlsaState.UNUSABLE and self._host is not None:
            # RFC 8460 §4.3.2.1: validated records, none of which can be used (RPT-JSON-36).
            reason = "all-TLSA-records-unusable"
            return self._failed(self._tlsa(self._host), ResultType.TLSA_INVALID, reason)
        if self._dane is TlsaState.USABLE:
            return NotCounted("not-verified-as-demanded")
        if self._mode is Mode.TESTING and self._policy is not None:
            return self._judge_testing(self._policy)
        if self._mode is Mode.ENFORCE:
            return NotCounted("not-verified-as-demanded")
        # RFC 8460 §4.2.1: without a policy, TLS is success enough (RPT-JSON-24).
        return self._succeeded(self._none())

    def _judge_testing(self, policy: PolicyInfo) -> Session:
        reported = self._sts(policy)
        if not match_any(self._logged.mx_host, policy.mx_patterns):
            return self._failed(reported, ResultType.VALIDATION_FAILURE, OFF_POLICY_REASON)
        if self._logged.trust is LogOutcome.TRUSTED:
            # Nobody compared the certificate's names with the host's (design decision 10).
            return Session(parse_domain(self._logged.domain), "", (), (reported,))
        return self._failed(reported, *self._certificate_fault())

    def _judge_refused(self) -> Session | NotCounted:
        fault = self._certificate_fault()
        if self._dane is TlsaState.USABLE and self._host is not None:
            return self._failed(self._tlsa(self._host), *fault)
        if self._logged.fault == _DANE_MISMATCH:
            return self._failed(self._bare_tlsa(), *fault)
        if self._mode is not None and self._policy is not None:
            return self._failed(self._sts(self._policy), *fault)
        return NotCounted("refused-for-another-reason")

    def _judge_clear(self) -> Session | NotCounted:
        if self._mode is Mode.TESTING and self._policy is not None:
            return self._failed(self._sts(self._policy), ResultType.STARTTLS_NOT_SUPPORTED)
        if self._dane is not None or self._mode is Mode.ENFORCE:
            return NotCounted("not-verified-as-demanded")
        return NotCounted("clear-text-without-policy")

    def _certificate_fault(self) -> tuple[ResultType, str]:
        """Result type and reason of a certificate that was refused."""
        fault = self._logged.fault
        if fault == _EXPIRED:
            return ResultType.CERTIFICATE_EXPIRED, ""
        if fault == _HOST_MISMATCH:
            return ResultType.CERTIFICATE_HOST_MISMATCH, ""
        if not fault and self._logged.trust is LogOutcome.TRUSTED:
            # Up to some releases Postfix refuses for a name without a word on it.
            return ResultType.CERTIFICATE_HOST_MISMATCH, ""
        if fault == _NOT_YET_VALID:
            return ResultType.VALIDATION_FAILURE, fault
        return ResultType.CERTIFICATE_NOT_TRUSTED, fault

    def _succeeded(self, policy: ReportedPolicy) -> Session:
        domain = parse_domain(self._logged.domain)
        return Session(domain, "", (JudgedPolicy(policy, succeeded=True),))

    def _failed(self, policy: ReportedPolicy, result_type: ResultType, reason: str = "") -> Session:
        judged = JudgedPolicy(
            policy, succeeded=False, failures=(self._detail(result_type, reason),)
        )
        return Session(parse_domain(self._logged.domain), "", (judged,))

    def _detail(self, result_type: ResultType, reason: str) -> FailureDetail:
        return make_detail(
            result_type,
            receiving_mx_hostname=self._logged.mx_host,
            receiving_ip=self._logged.mx_address,
            failure_reason_code=reason,
        )
