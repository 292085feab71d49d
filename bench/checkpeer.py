# SPDX-License-Identifier: Apache-2.0
"""checkdmarc without what strictmail does not look at: no SPF, no DMARC, no BIMI.

Run by the Python of `.venv/checkpeer`: `checkpeer.py RESOLVER LIST OUT.json`. The same calls in the
same order as in its own `check_domains`, and one result a domain.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from checkdmarc import check_ns, check_soa
from checkdmarc.dnssec import check_dnssec
from checkdmarc.mta_sts import check_mta_sts
from checkdmarc.smtp import check_mx
from checkdmarc.smtp_tls_reporting import check_smtp_tls_reporting


def check(domain: str, servers: list[str]) -> dict[str, object]:
    result: dict[str, object] = {
        "domain": domain,
        "dnssec": check_dnssec(domain, nameservers=servers),
        "soa": check_soa(domain, nameservers=servers),
        "ns": check_ns(domain, nameservers=servers),
        "mta_sts": (policy := check_mta_sts(domain, nameservers=servers)),
    }
    patterns = policy["policy"]["mx"] if policy["valid"] else None
    result["mx"] = check_mx(
        domain, mta_sts_mx_patterns=patterns, check_mx_tls=True, nameservers=servers
    )
    result["smtp_tls_reporting"] = check_smtp_tls_reporting(domain, nameservers=servers)
    return result


def main() -> None:
    resolver, listed, out = sys.argv[1:]
    names = sorted(Path(listed).read_text().split())
    Path(out).write_text(json.dumps([check(name, [resolver]) for name in names]))


if __name__ == "__main__":
    main()
