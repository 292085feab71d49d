# SPDX-License-Identifier: Apache-2.0
"""The rules of the policy fetch (RFC 8461 §3.2, §3.3), apart from the network that obeys them.

Which host and path, which responses hold a policy, which addresses may be connected to, and
which RFC 8460 result type a failure ends in.

Choices: a response without Content-Type is refused like one of a wrong type (STS-FET-21), and so
is any content coding, since none is asked for (STS-FET-25).
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias

from strictmail.core.errors import PolicySyntaxError
from strictmail.core.sts.policy import parse_policy, policy_lines
from strictmail.core.sts.values import MAX_POLICY_BYTES, FetchedPolicy, FetchFailure
from strictmail.core.tagrecord import quote
from strictmail.core.tlsrpt.results import ResultType

if TYPE_CHECKING:
    from collections.abc import Iterable

POLICY_PATH: Final = "/.well-known/mta-sts.txt"
"""RFC 8461 §3.2."""

MEDIA_TYPE: Final = "text/plain"

HTTP_OK: Final = 200

MAX_FAILURE_LINES: Final = 64
"""Lines of an invalid body kept for the report."""

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

MAX_REMEMBERED_ADDRESSES: Final = 4096
"""Reading one takes some 20 µs, and a list of domains has the same ones again and again."""

_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_IPV4_MASK: Final = 0xFFFF_FFFF

_EXPIRED_CODES: Final = frozenset({9, 10})
"""X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED (OpenSSL x509_vfy.h)."""

_NAME_CODES: Final = frozenset({62, 64})
"""X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH."""


def policy_host(policy_domain: str) -> str:
    """The host of the policy: in the URL, in `Host`, in SNI, and the certificate's reference.

    Args:
        policy_domain: In A-labels; the domain that was asked for, also if its TXT record was
            found through a CNAME.
    """
    # RFC 8461 §3.2, §8.2: always under the policy domain itself (STS-FET-01, STS-FET-04,
    # STS-REC-27).
    return f"mta-sts.{policy_domain}"


def policy_url(policy_domain: str) -> str:
    """The one URL that is tried."""
    # RFC 8461 §3.2, §3.3: HTTPS, no port, no query (STS-FET-01, STS-FET-03).
    return f"https://{policy_host(policy_domain)}{POLICY_PATH}"


def judge_response(
    status: int, content_type: str | None, content_encoding: str | None
) -> FetchFailure | None:
    """Whether a response head promises a policy.

    Args:
        status: The status code.
        content_type: The field's value; several joined by `,`.
        content_encoding: The field's value, if there is one.

    Returns:
        None to go on and read the body, or why not.
    """
    if status in _REDIRECTS:
        # RFC 8461 §3.3: no redirect is followed, not even to the same host (STS-FET-17, SEC-17).
        return _fetch_error("redirect", f"HTTP status {status}: a redirect, which is not followed")
    if status != HTTP_OK:
        # RFC 8461 §3.3: 200 and nothing else; a 304 too is none (STS-FET-16, STS-FET-18).
        return _fetch_error("http-status", f"HTTP status {status}, not 200")
    if content_encoding is not None and content_encoding.strip().lower() not in ("", "identity"):
        # BCP: nothing is decompressed, so that nothing can explode (STS-FET-25).
        return _fetch_error(
            "content-encoding", f"content coding {quote(content_encoding)} was not asked for"
        )
    # RFC 8461 §3.2: text/plain, in any case; its parameters do not matter, and the body is read
    # as UTF-8 (STS-FET-19, STS-FET-20, SEC-18).
    media_type = (content_type or "").partition(";")[0].strip(" \t")
    if media_type.lower() != MEDIA_TYPE:
        # Spec-silent: no Content-Type is no text/plain (STS-FET-21).
        shown = quote(media_type) if media_type else "missing"
        return _fetch_error("media-type", f"the media type is {shown}, not {MEDIA_TYPE}")
    return None


def judge_size(size_bytes: int) -> FetchFailure | None:
    """Whether a body of this size, or the part of it read so far, may be used."""
    # RFC 8461 §3.3: above the limit the fetch fails, and no part is parsed (STS-FET-23,
    # STS-FET-24).
    if size_bytes > MAX_POLICY_BYTES:
        return _fetch_error("too-large", f"the body is larger than {MAX_POLICY_BYTES} octets")
    return None


def judge_length(size_bytes: int, declared_bytes: int | None) -> FetchFailure | None:
    """Whether a body that has ended is whole.

    Args:
        size_bytes: What came.
        declared_bytes: Content-Length, or None when the body ends by itself.
    """
    # RFC 9112 §8: a body that is cut off could have lost its last mx lines (STS-FET-26).
    if declared_bytes is not None and size_bytes < declared_bytes:
        return _fetch_error("truncated", f"{size_bytes} octets of {declared_bytes} came")
    return judge_size(size_bytes)


def judge_certificate_error(verify_code: int, message: str) -> FetchFailure:
    """What a failed certificate check of the policy host is called.

    Args:
        verify_code: OpenSSL's X509_V_ERR number.
        message: OpenSSL's sentence on it.
    """
    # RFC 8461 §3.3: chain, dates and name have to be right (STS-FET-06, STS-FET-07, STS-FET-08).
    if verify_code in _EXPIRED_CODES:
        reason_code, what = "certificate-expired", "is outside its validity time"
    elif verify_code in _NAME_CODES:
        reason_code, what = "certificate-name", "does not name the policy host"
    else:
        reason_code, what = "certificate-untrusted", "does not lead to a trusted root"
    return FetchFailure(
        ResultType.STS_WEBPKI_INVALID,
        f"the policy host's certificate {what}: {quote(message)} (code {verify_code})",
        reason_code,
    )


def judge_body(body: bytes) -> FetchedPolicy | FetchFailure:
    """Parse a body that came whole, over verified TLS.

    Spec: RFC 8461 §3.3: a body that is no policy is a failed fetch (STS-FET-30).
    """
    too_large = judge_size(len(body))
    if too_large is not None:
        return too_large
    try:
        return FetchedPolicy(parse_policy(body), body)
    except PolicySyntaxError as error:
        return FetchFailure(
            ResultType.STS_POLICY_INVALID,
            str(error),
            "syntax",
            policy_lines(body, MAX_FAILURE_LINES),
        )


def read_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Networks that an operator lists, read once for many calls of `is_allowed_address`.

    Args:
        texts: Such as `10.0.0.0/8`; bits behind the prefix are passed over.

    Raises:
        ValueError: One of them is none.
    """
    return tuple(ipaddress.ip_network(text, strict=False) for text in texts)


def is_allowed_address(address: str, allow_networks: Iterable[str | Network]) -> bool:
    """Whether a policy host at this address may be connected to.

    Args:
        address: IPv4 or IPv6 text: the address connected to, not one looked up before.
        allow_networks: Networks the operator lists, such as `10.0.0.0/8`; they come first.

    Returns:
        True for global unicast and for listed addresses; False for everything else, text that
        is no address too.
    """
    parsed, is_public = _read_address(address)
    if parsed is None:
        return False
    for listed in allow_networks:
        network = ipaddress.ip_network(listed, strict=False) if isinstance(listed, str) else listed
        if parsed.version == network.version and parsed in network:
            return True
    # BCP: who publishes a domain must not steer us into the inner network (STS-FET-45, SEC-19).
    return is_public


@lru_cache(maxsize=MAX_REMEMBERED_ADDRESSES)
def _read_address(text: str) -> tuple[Address | None, bool]:
    """The address that a text is, None if it is none; and whether it is global unicast."""
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return None, False
    return parsed, _is_global_unicast(parsed)


def _is_global_unicast(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not address.is_multicast and not address.is_reserved
    inner = _embedded_address(address)
    if inner is not None:
        return _is_global_unicast(inner)
    return (
        address.scope_id is None
        and address in _GLOBAL_UNICAST
        and address.is_global
        and address.teredo is None
    )


def _embedded_address(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that packets to this IPv6 address end up at, if it is of that kind."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & _IPV4_MASK)
    return address.sixtofour


def _fetch_error(reason_code: str, reason: str) -> FetchFailure:
    return FetchFailure(ResultType.STS_POLICY_FETCH_ERROR, reason, reason_code)
