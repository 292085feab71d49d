# SPDX-License-Identifier: Apache-2.0
"""The whole error tree.

::

    StrictmailError                 everything that strictmail raises on purpose
    ├── SyntaxFault                 input that breaks its grammar; knows where
    │   ├── DomainSyntaxError       not a domain name
    │   ├── NexthopSyntaxError      not a next-hop of any known form
    │   ├── RecordSyntaxError       a TXT record breaks its grammar
    │   ├── PolicySyntaxError       an MTA-STS policy body breaks its grammar
    │   ├── TlsaSyntaxError         not the presentation form of a TLSA record
    │   ├── FrameError              a netstring or socketmap request is malformed
    │   ├── DatagramError           a TLSRPT datagram that says nothing countable
    │   ├── SessionSyntaxError      a session told in JSON that cannot be counted
    │   └── ReportSyntaxError       a TLS report that cannot be read
    ├── EncodingError               a value cannot be said in an output language
    ├── StoreError                  the store did not do it
    │   ├── StoreUnavailableError   full disk, read-only, locked: keep answering from memory
    │   └── SchemaTooNewError       a newer strictmail wrote this file: refuse to start
    ├── ConfigError                 configuration refused: file, line, suggestion
    └── UnreachableError            a daemon or host that a command needs did not answer

Each class says what its caller does next. DNS outcomes are no errors but values
(`strictmail.core.dnsvalues`): SERVFAIL is an answer to a question.
"""

from __future__ import annotations


class StrictmailError(Exception):
    """Base of every error that strictmail raises on purpose."""


class SyntaxFault(StrictmailError, ValueError):  # noqa: N818 - "fault" is the word the checker shows
    """Input that breaks its grammar. Keep what was there before; tell the owner.

    Attributes:
        text: The offending text, cut to a printable size.
        position: Offset of the first character at fault, 0-based, or None.
        line: Line number, 1-based, for bodies of several lines, or None.
    """

    def __init__(
        self, message: str, *, text: str = "", position: int | None = None, line: int | None = None
    ) -> None:
        super().__init__(message)
        self.text = text[:200]
        self.position = position
        self.line = line


class DomainSyntaxError(SyntaxFault):
    """Not a domain name: there is nothing to look up; answer as for an unknown key."""


class NexthopSyntaxError(SyntaxFault):
    """Not a next-hop of any known form: answer NOTFOUND, without DNS work."""


class RecordSyntaxError(SyntaxFault):
    """A TXT record breaks its grammar: act as if no policy can be discovered (RFC 8461 §3.1).

    Attributes:
        reason_code: A stable word: `syntax`; or, about the whole RRset, `absent` (no record
            starts with the version) or `several`.
    """

    def __init__(
        self,
        message: str,
        *,
        reason_code: str = "syntax",
        text: str = "",
        position: int | None = None,
    ) -> None:
        super().__init__(message, text=text, position=position)
        self.reason_code = reason_code


class PolicySyntaxError(SyntaxFault):
    """A policy body breaks its grammar: keep any unexpired cached policy; sts-policy-invalid."""


class TlsaSyntaxError(SyntaxFault):
    """Not the presentation form of a TLSA record."""


class FrameError(SyntaxFault):
    """A netstring or socketmap request is malformed: answer PERM where possible, then close."""


class DatagramError(SyntaxFault):
    """A TLSRPT datagram that says nothing countable: count it under its reason, and go on.

    Attributes:
        reason_code: A stable word: `empty`, `too-large`, `not-json`, `structure`, `version`,
            `domain`, `no-policy`.
    """

    def __init__(self, message: str, *, reason_code: str = "structure", text: str = "") -> None:
        super().__init__(message, text=text)
        self.reason_code = reason_code


class SessionSyntaxError(SyntaxFault):
    """A session told in JSON that cannot be counted: refuse all that came with it; name the place.

    Attributes:
        place: A JSON pointer.
    """

    def __init__(self, message: str, *, place: str = "") -> None:
        super().__init__(message)
        self.place = place


class ReportSyntaxError(SyntaxFault):
    """A TLS report that cannot be read: keep it aside with the reason; tell the reporter.

    Attributes:
        place: A JSON pointer.
    """

    def __init__(self, message: str, *, place: str = "/") -> None:
        super().__init__(message)
        self.place = place


class EncodingError(StrictmailError, ValueError):
    """A value cannot be said in an output language: answer TEMP, never a weaker value."""


class StoreError(StrictmailError):
    """The store did not do what was asked."""


class StoreUnavailableError(StoreError):
    """Full disk, read-only, locked or damaged: keep answering from memory, say so, try again."""


class SchemaTooNewError(StoreError):
    """A newer strictmail wrote this file: refuse to start; the message names both versions."""


class ConfigError(StrictmailError):
    """Configuration refused; the message names file, line and a fix. Exit with EX_CONFIG."""


class UnreachableError(StrictmailError):
    """A daemon or host that a command needs did not answer. Exit with EX_UNAVAILABLE."""
