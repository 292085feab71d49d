# SPDX-License-Identifier: Apache-2.0
"""Presented identifiers against reference identifiers (RFC 9525 §6), for each of our uses.

A name matches label by label, in any ASCII case. `*` counts only as the whole left-most label and
stands for exactly one label, which may be an A-label. A presented identifier that is no plain
host name (an embedded NUL, a U-label, a trailing dot, an address, `mx*`) matches nothing.

Choice: `*.net` matches `example.net`, as the rules read. No public CA may issue it; OpenSSL,
which checks the real sessions, wants two labels behind the star and refuses it.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from strictmail.core.errors import DomainSyntaxError
from strictmail.core.names import is_address, parse_domain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class CertContext(enum.Enum):
    """What a certificate is looked at for."""

    POLICY_HOST = "policy-host"
    """The HTTPS server of a policy (RFC 8461 §3.3): dNSName only."""
    MTA_STS_MX = "mta-sts-mx"
    """An MX host under an MTA-STS policy (RFC 8461 §4.2): dNSName only."""
    DANE_TA = "dane-ta"
    """An MX host under a DANE-TA record (RFC 7672 §3.2.3): the common name as a last resort."""


def match_certificate(
    context: CertContext,
    reference_ids: Sequence[str],
    dns_names: Sequence[str],
    common_name: str | None,
) -> bool:
    """Whether a certificate names any of the hosts that we would accept.

    Args:
        context: Decides whether the common name may ever count.
        reference_ids: Names we expect: A-labels or U-labels, any case, one trailing dot allowed.
        dns_names: The certificate's dNSName entries as they stand; addresses are not among them.
        common_name: The subject's common name, if it has one.
    """
    presented: Iterable[str] = dns_names
    if context is CertContext.DANE_TA and not dns_names and common_name is not None:
        # RFC 7672 §3.2.3: the common name counts only where there is no dNSName (DANE-65).
        presented = (common_name,)
    # RFC 8461 §3.3, §4.2: elsewhere the common name never counts (STS-FET-09, STS-APP-34).
    references = [name for name in map(_parse_reference, reference_ids) if name]
    return any(
        _match_name(name.lower(), reference)
        for name in presented
        if _is_presentable(name)
        for reference in references
    )


def _parse_reference(reference_id: str) -> str:
    """A reference in its one form; "" for what no dNSName can stand for."""
    # RFC 9525 §6.3, §6.4: an address is never matched by a dNSName (SEC-34, STS-APP-23).
    if is_address(reference_id):
        return ""
    try:
        # RFC 9525 §6.3: compared as A-labels (SEC-32, STS-FET-04).
        return parse_domain(reference_id)
    except DomainSyntaxError:
        return ""


def _is_presentable(name: str) -> bool:
    """Whether a presented name is a host name, or `*.` and one, and nothing cleverer."""
    # RFC 9525 §6.3: `*` only as the whole left-most label (STS-FET-10, STS-APP-35, DANE-66,
    # SEC-33).
    bare = name.removeprefix("*.")
    if not bare.isascii() or bare.endswith("."):
        return False
    try:
        # RFC 9525 §6.3: an embedded NUL, or anything else foreign to a name, never matches
        # (SEC-32).
        parse_domain(bare)
    except DomainSyntaxError:
        return False
    return True


def _match_name(presented: str, reference: str) -> bool:
    if not presented.startswith("*."):
        return presented == reference
    # RFC 9525 §6.3: `*` is exactly one label (STS-FET-10, STS-APP-35, DANE-67).
    return presented[2:] == reference.partition(".")[2]
