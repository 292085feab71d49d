# SPDX-License-Identifier: Apache-2.0
"""The kinds of findings about the policy host: its DNS, its TLS and its answers."""

from __future__ import annotations

from typing import Final

from strictmail.core.check.kinds import Kind
from strictmail.core.check.result import Severity
from strictmail.core.sts.values import MAX_POLICY_BYTES

_HOST_FIX: Final = "Serve the policy as a static file from a host that does nothing else."

NO_ADDRESS: Final = Kind(
    "STS020",
    Severity.CRITICAL,
    "Policy host has no address",
    "RFC 8461 §3.2",
    "The record promises a policy, and there is no host to fetch it from: senders deliver as "
    "without MTA-STS.",
    "STS-FET-28",
    "Publish an address, or a CNAME, for the policy host.",
)
DANGLING: Final = Kind(
    "STS021",
    Severity.CRITICAL,
    "Policy host is an alias of nothing",
    "RFC 8461 §10.3",
    "The target of the CNAME does not exist. Whoever can register it may serve a policy in the "
    "domain's name.",
    "STS-FET-28",
    "Point the CNAME at a host that exists, or remove it.",
)
DNS_FAILED: Final = Kind(
    "STS022",
    Severity.UNKNOWN,
    "Lookup of the policy host failed",
    "RFC 8461 §3.3",
    "Nobody could see where the policy is. A sender with the same trouble goes by the policy that "
    "it has cached, or by none.",
    "STS-FET-48",
    "Ask again later; if it stays, look at the name servers of the domain.",
)
NOT_PUBLIC: Final = Kind(
    "STS023",
    Severity.CRITICAL,
    "Policy host with an address that is not public",
    "RFC 8461 §3.3",
    "Senders cannot reach such an address, and careful ones do not even try.",
    "STS-FET-45",
    "Publish public addresses only.",
)
ALIAS: Final = Kind(
    "STS024",
    Severity.INFO,
    "Policy host delegated by CNAME",
    "RFC 8461 §8.2",
    "Somebody else serves the policy; the certificate has to name the host under the domain itself.",
    "STS-FET-05",
)
UNREACHABLE: Final = Kind(
    "STS025",
    Severity.UNKNOWN,
    "Policy host cannot be reached from here",
    "RFC 8461 §3.3",
    "No connection came about. If it is the same for senders, they deliver as without MTA-STS.",
    "STS-FET-28",
    "Open port 443 of the policy host for everybody.",
)
TOO_SLOW: Final = Kind(
    "STS026",
    Severity.CRITICAL,
    "Policy host is too slow",
    "RFC 8461 §3.3",
    "Senders give up after about a minute and deliver as without MTA-STS.",
    "STS-FET-27",
    _HOST_FIX,
)
EXPIRED: Final = Kind(
    "STS027",
    Severity.CRITICAL,
    "Certificate of the policy host is out of date",
    "RFC 8461 §3.3",
    "Senders refuse the policy and deliver as without MTA-STS, once what they have cached is over.",
    "STS-FET-07",
    "Renew the certificate, and see to it that it renews itself. If it is not valid yet, look at the "
    "clock of the machine that made it.",
)
WRONG_NAME: Final = Kind(
    "STS028",
    Severity.CRITICAL,
    "Certificate does not name the policy host",
    "RFC 8461 §3.3",
    "Senders refuse the policy and deliver as without MTA-STS.",
    "STS-FET-08",
    "Get a certificate that has the policy host as a dNSName.",
)
WRONG_DELEGATE: Final = Kind(
    "STS029",
    Severity.CRITICAL,
    "Certificate names the delegate only",
    "RFC 8461 §8.2",
    "The policy host is a CNAME, and the server there has a certificate for its own name: senders "
    "refuse the policy and deliver as without MTA-STS.",
    "STS-FET-11",
    "Have the delegate install a certificate for the policy host of this domain, for that SNI name.",
)
UNTRUSTED: Final = Kind(
    "STS030",
    Severity.CRITICAL,
    "Certificate of the policy host is not trusted",
    "RFC 8461 §3.3",
    "It does not lead to a root that senders trust: they refuse the policy and deliver as without "
    "MTA-STS. A missing intermediate certificate is the usual cause.",
    "STS-FET-06",
    "Use a certificate of a public CA, and send its intermediate certificates.",
)
TLS_FAILED: Final = Kind(
    "STS031",
    Severity.CRITICAL,
    "TLS with the policy host fails",
    "RFC 8461 §7.2",
    "There is no handshake at TLS 1.2 or later: senders deliver as without MTA-STS.",
    "STS-FET-15",
    "Offer TLS 1.2 and 1.3, also for the SNI name of the policy host.",
)
REDIRECT: Final = Kind(
    "STS032",
    Severity.CRITICAL,
    "Policy host redirects",
    "RFC 8461 §3.3",
    "Senders follow no redirect, not even to the same host: for them there is no policy.",
    "STS-FET-17",
    "Answer the one path with status 200; exempt it from redirects to `www` or to a login.",
)
BAD_STATUS: Final = Kind(
    "STS033",
    Severity.CRITICAL,
    "Policy host answers with an error",
    "RFC 8461 §3.3",
    "Only status 200 makes a body a policy: senders deliver as without MTA-STS.",
    "STS-FET-16",
    "Serve the policy at exactly this path, with status 200, to every client.",
)
MEDIA: Final = Kind(
    "STS034",
    Severity.CRITICAL,
    "Policy is not served as text/plain",
    "RFC 8461 §3.2",
    "Senders refuse another media type, since anybody may upload pages and pictures somewhere.",
    "STS-FET-19",
    "Serve the file with this header.",
)
ENCODED: Final = Kind(
    "STS035",
    Severity.CRITICAL,
    "Policy is served compressed",
    "RFC 8461 §3.2",
    "The server applied a content coding that nobody asked for; strict senders refuse it.",
    "STS-FET-25",
    "Turn compression off for this path.",
)
TOO_LARGE: Final = Kind(
    "STS036",
    Severity.CRITICAL,
    "Policy is too large",
    "RFC 8461 §3.3",
    f"Senders read {MAX_POLICY_BYTES} octets at most, and refuse what is longer.",
    "STS-FET-23",
    "Use wildcards in place of long lists of MX hosts.",
)
TRUNCATED: Final = Kind(
    "STS037",
    Severity.CRITICAL,
    "Policy comes cut off",
    "RFC 8461 §3.3",
    "The response ended before its end: the last `mx` lines could be missing, so senders refuse it.",
    "STS-FET-26",
    "Correct Content-Length, and look at what stands in front of the server.",
)
HTTP_BROKEN: Final = Kind(
    "STS038",
    Severity.CRITICAL,
    "Policy host does not speak HTTP",
    "RFC 8461 §3.3",
    "The response is no HTTP response: senders deliver as without MTA-STS.",
    "STS-FET-16",
    _HOST_FIX,
)
SLOW: Final = Kind(
    "STS039",
    Severity.WARNING,
    "Policy host is slow",
    "RFC 8461 §3.3",
    "Senders give up after about a minute; little is missing.",
    "STS-FET-27",
    _HOST_FIX,
)
LARGE: Final = Kind(
    "STS040",
    Severity.WARNING,
    "Policy is large",
    "RFC 8461 §3.3",
    f"Senders refuse a policy above {MAX_POLICY_BYTES} octets; little is missing.",
    "STS-FET-27",
    "Use wildcards in place of long lists of MX hosts.",
)
ADDRESS_FAILS: Final = Kind(
    "STS041",
    Severity.WARNING,
    "Policy host fails at one address",
    "RFC 8461 §3.3",
    "Which address a sender takes is chance; those that take this one wait, or get no policy.",
    "STS-FET-48",
    "Serve the same policy at every address, or remove the address from DNS.",
)
IPV6_IN_NAME: Final = Kind(
    "STS042",
    Severity.WARNING,
    "Policy host has IPv6 in name only",
    "RFC 8461 §3.3",
    "The policy is served over IPv4 and not over IPv6. Senders that prefer IPv6 wait, or get no "
    "policy.",
    "STS-FET-48",
    "Serve the policy over IPv6, too, or remove the AAAA record.",
)
BODIES_DIFFER: Final = Kind(
    "STS043",
    Severity.WARNING,
    "Addresses of the policy host serve different policies",
    "RFC 8461 §8.1",
    "Which policy a sender gets, and keeps, is chance.",
    "STS-REC-36",
    "Put the same file onto every server before the id changes.",
)
AGENT: Final = Kind(
    "STS044",
    Severity.WARNING,
    "Policy host looks at the user agent",
    "RFC 8461 §3.3",
    "A firewall or bot filter lets some programs through and others not: some senders get no policy.",
    "STS-FET-47",
    "Exempt this path from every filter: mail servers solve no riddles.",
)
EXPIRES: Final = Kind(
    "STS045",
    Severity.WARNING,
    "Certificate of the policy host expires soon",
    "RFC 8461 §3.3",
    "Once it has expired, senders refuse the policy.",
    "STS-FET-07",
    "Renew the certificate, and see to it that it renews itself.",
)
FETCH_FAILED: Final = Kind(
    "STS046",
    Severity.CRITICAL,
    "Policy cannot be fetched",
    "RFC 8461 §3.3",
    "Senders deliver as without MTA-STS.",
    "STS-FET-28",
    _HOST_FIX,
)
SERVED: Final = Kind(
    "STS047",
    Severity.OK,
    "Policy is served",
    "RFC 8461 §3.3",
    "Senders can fetch the policy over verified HTTPS.",
    "STS-FET-27",
)

KINDS: Final = (
    NO_ADDRESS,
    DANGLING,
    DNS_FAILED,
    NOT_PUBLIC,
    ALIAS,
    UNREACHABLE,
    TOO_SLOW,
    EXPIRED,
    WRONG_NAME,
    WRONG_DELEGATE,
    UNTRUSTED,
    TLS_FAILED,
    REDIRECT,
    BAD_STATUS,
    MEDIA,
    ENCODED,
    TOO_LARGE,
    TRUNCATED,
    HTTP_BROKEN,
    SLOW,
    LARGE,
    ADDRESS_FAILS,
    IPV6_IN_NAME,
    BODIES_DIFFER,
    AGENT,
    EXPIRES,
    FETCH_FAILED,
    SERVED,
)
