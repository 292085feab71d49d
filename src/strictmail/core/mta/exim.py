# SPDX-License-Identifier: Apache-2.0
"""The words for Exim, which has no policy table: its configuration reads the reply.

The router asks with `${readsocket}`, keeps `OK …` or `NOTFOUND ` in `$address_data`, and turns
anything else (TEMP, PERM, nothing) into a deferral. Exim closes its sending half after the
request and reads to the end: the listener answers, then closes.

The reply's first word after OK drives the transport's options:

=============  ====================================================================
reply          what the transport makes of it
=============  ====================================================================
NOTFOUND       nothing is required; `hosts_try_dane = *` stays in force
OK may         the same
OK dane        the same: Exim holds each host to its TLSA records by itself
OK encrypt     `hosts_require_tls = *`
OK dane-only   as secure, against an empty trust store: only DANE can verify a host
OK secure …    `hosts_require_tls = *`, `tls_verify_hosts = *`, the name on the `match` list
=============  ====================================================================

`hosts_require_dane` is not used for dane-only: it bounces where the mail should wait. The whole
configuration stands in docs/exim.md.

A configuration that reads only `OK secure` would treat `encrypt` and `dane-only` as no demand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from strictmail.core.mta import postfix

if TYPE_CHECKING:
    from strictmail.core.decision import Decision


def encode_reply(decision: Decision) -> bytes:
    """Say a decision to an Exim configuration that knows the table above.

    Args:
        decision: Already raised to the listener's default level.

    Returns:
        The complete reply, a netstring: the same words as for Postfix up to 3.9. Values hold
        nothing that Exim expands or that ends an item of an Exim list.

    Raises:
        EncodingError: It cannot be said without becoming weaker: reply TEMP.
    """
    return postfix.encode_reply(decision)
