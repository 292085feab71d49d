# SPDX-License-Identifier: Apache-2.0
"""Which certificates name a host: beyond the vectors, what a table shows best."""

from __future__ import annotations

import pytest

from strictmail.core.certname import CertContext, match_certificate

ALL = tuple(CertContext)
POLICY_HOST, MTA_STS_MX, DANE_TA = ALL


@pytest.mark.req("STS-FET-08", "STS-FET-10", "STS-APP-33", "STS-APP-35", "DANE-66", "SEC-32")
@pytest.mark.parametrize("context", ALL)
@pytest.mark.parametrize(
    ("presented", "reference", "matches"),
    [
        pytest.param("mx.example.com", "mx.example.com", True, id="same"),
        pytest.param("mx.example.com", "MX.EXAMPLE.com.", True, id="our-case-and-dot"),
        pytest.param("mx_1.example.com", "mx_1.example.com", True, id="underscores-exist"),
        pytest.param("*.example.com", "mx_1.example.com", True, id="wildcard-underscore"),
        pytest.param("*.net", "example.net", True, id="as-the-rules-read"),
        pytest.param("*.net", "mx.example.net", False, id="one-label-only"),
        pytest.param("*", "localhost", False, id="star-alone"),
        pytest.param("*.", "localhost", False, id="star-and-dot"),
        pytest.param("", "mx.example.com", False, id="empty"),
        pytest.param(".example.com", "mx.example.com", False, id="leading-dot"),
        pytest.param("mx.example.com.", "mx.example.com", False, id="their-dot"),
        pytest.param("mx.example.com\n", "mx.example.com", False, id="newline"),
        pytest.param("\0mx.example.com", "mx.example.com", False, id="nul-first"),
        pytest.param("mx.example.com\0", "mx.example.com", False, id="nul-last"),
        pytest.param("mx.example.com ", "mx.example.com", False, id="blank"),
        pytest.param("mx.example.com/CN=a", "mx.example.com", False, id="slash"),
        pytest.param("xn--*.example.com", "xn--a.example.com", False, id="inside-an-a-label"),
        pytest.param("m*.example.com", "mx.example.com", False, id="partial"),
        pytest.param("*x.example.com", "mx.example.com", False, id="partial-behind"),
        pytest.param("**.example.com", "mx.example.com", False, id="two-stars"),
        pytest.param("mx.*.com", "mx.example.com", False, id="not-left-most"),
        pytest.param("192.0.2.1", "192.0.2.1", False, id="ipv4"),
        pytest.param("2001:db8::1", "2001:db8::1", False, id="ipv6"),
        pytest.param("а.example.com", "a.example.com", False, id="cyrillic-homograph"),
    ],
)
def test_one_name(context: CertContext, presented: str, reference: str, matches: bool) -> None:
    assert match_certificate(context, [reference], [presented], None) is matches


@pytest.mark.req("STS-FET-09", "STS-APP-34", "DANE-65")
@pytest.mark.parametrize(
    ("context", "dns_names", "matches"),
    [
        (POLICY_HOST, [], False),
        (MTA_STS_MX, [], False),
        (DANE_TA, [], True),
        (POLICY_HOST, ["other.example"], False),
        (MTA_STS_MX, ["other.example"], False),
        (DANE_TA, ["other.example"], False),
        (DANE_TA, ["\0"], False),
    ],
)
def test_common_name(context: CertContext, dns_names: list[str], matches: bool) -> None:
    assert match_certificate(context, ["mx.example"], dns_names, "mx.example") is matches


@pytest.mark.req("DANE-63")
def test_any_reference_will_do() -> None:
    references = ["192.0.2.1", "", "not a name", "mx.example"]
    assert match_certificate(DANE_TA, references, ["mx.example"], None)
    assert not match_certificate(DANE_TA, references[:3], ["mx.example"], None)
    assert not match_certificate(DANE_TA, [], ["mx.example"], None)
