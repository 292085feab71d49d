# SPDX-License-Identifier: Apache-2.0
"""Results of checks that never were, for tests of what is done with results."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from strictmail.core.check.result import (
    SCHEMA_VERSION,
    AddressResult,
    Area,
    Certificate,
    Chain,
    CheckResult,
    Evidence,
    Finding,
    HostResult,
    Prediction,
    SenderClass,
    SenderVerdict,
    Severity,
    StsResult,
    TlsrptResult,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def certificate(number: int = 1, **changes: Any) -> Certificate:
    values: dict[str, Any] = {
        "subject": "CN=mx.example.com",
        "issuer": "CN=Test CA",
        "dns_names": ("mx.example.com",),
        "not_before": NOON,
        "not_after": datetime(2026, 4, 1, tzinfo=UTC),
        "key": "ecdsa-256",
        "signature": "sha256",
        "sha256": f"{number:064x}",
        "spki_sha256": f"{number:064x}",
        "is_ca": False,
    }
    return Certificate(**(values | changes))


def chain(*certificates: Certificate, **changes: Any) -> Chain:
    values: dict[str, Any] = {
        "key_type": "ecdsa",
        "server_name": "mx.example.com",
        "tls_version": "TLSv1.3",
        "cipher": "TLS_AES_256_GCM_SHA384",
        "pkix_problems": (),
        "detail": "",
        "dane": "",
        "certificates": certificates or (certificate(),),
    }
    return Chain(**(values | changes))


def address(text: str = "192.0.2.1", *chains: Chain, **changes: Any) -> AddressResult:
    values: dict[str, Any] = {
        "address": text,
        "outcome": "tls" if chains else "no-starttls",
        "unknown": "",
        "detail": "",
        "helo": "mx.example.com",
        "chains": chains,
        "seconds": 0.1,
    }
    return AddressResult(**(values | changes))


def host(name: str = "mx.example.com", *addresses: AddressResult, **changes: Any) -> HostResult:
    values: dict[str, Any] = {
        "name": name,
        "preference": 10,
        "on_policy": None,
        "tlsa_state": "not-asked",
        "tlsa_base_domain": "",
        "tlsa": (),
        "addresses": addresses or (address("192.0.2.1", chain()),),
    }
    return HostResult(**(values | changes))


def sts(mode: str = "", **changes: Any) -> StsResult:
    values: dict[str, Any] = {
        "record": ("v=STSv1; id=1;",) if mode else (),
        "policy_id": "1" if mode else "",
        "mode": mode,
        "max_age": 604800 if mode else None,
        "mx_patterns": ("mx.example.com",) if mode else (),
        "policy_lines": (),
        "failure": "",
        "result_type": "",
    }
    return StsResult(**(values | changes))


def finding(
    number: str = "STS012", severity: Severity = Severity.WARNING, **changes: Any
) -> Finding:
    values: dict[str, Any] = {
        "id": number,
        "area": Area(number.rstrip("0123456789")),
        "severity": severity,
        "subject": "_mta-sts.example.com",
        "title": "a title",
        "sentence": "a sentence",
        "source": "RFC 8461 §3.1",
        "evidence": (Evidence("TXT record", "v=STSv1; id=1"),),
    }
    return Finding(**(values | changes))


def sender(
    kind: SenderClass = SenderClass.MTA_STS,
    prediction: Prediction = Prediction.ENCRYPTED,
    **changes: Any,
) -> SenderVerdict:
    values: dict[str, Any] = {
        "sender": kind,
        "prediction": prediction,
        "by": "pkix" if prediction is Prediction.AUTHENTICATED else "",
        "mx_host": "mx.example.com",
        "rule": "no-policy",
        "sentence": "a sentence",
        "source": "RFC 8461 §5",
    }
    return SenderVerdict(**(values | changes))


def result(domain: str = "example.com", **changes: Any) -> CheckResult:
    values: dict[str, Any] = {
        "schema": SCHEMA_VERSION,
        "strictmail": "1.0",
        "domain": domain,
        "checked_at": NOON,
        "seconds": 0.5,
        "status": Severity.OK,
        "summary": "a summary",
        "receiver": "",
        "mx_status": "found",
        "dnssec": "insecure",
        "sts": sts(),
        "tlsrpt": TlsrptResult((), ()),
        "hosts": (host(),),
        "senders": (sender(),),
        "verdicts": (),
        "findings": (),
    }
    return CheckResult(**(values | changes))
