# SPDX-License-Identifier: Apache-2.0
"""SMTP replies as a client reads them (RFC 5321 §4.2), out of octets that come in any pieces.

Knows lines, codes and the keywords of EHLO. What a reply means at its place in the dialogue, the
caller decides; nothing here raises, whatever a server sends.

Flow: `ReplyReader.feed(octets)` gives a `Reply` when one is complete, a `MalformedReply` once and
for all when what came is none, else None. Octets behind a complete reply stay in the reader
(`left_over`): before a TLS handshake they are an attack (RFC 3207 §6), elsewhere the next reply.
How the octets were cut into pieces changes nothing.

=====================================  ==========================================================
`250 text`, `250`                      the last line of a reply
`250-text`                             one more line follows
CRLF or LF                             ends a line; other controls are text
another code in a line that follows    malformed: nobody knows which one counts
a line, a number of lines, a reply     bounded: MAX_LINE_BYTES, MAX_REPLY_LINES, MAX_REPLY_BYTES
=====================================  ==========================================================
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Final, TypeAlias

MAX_LINE_BYTES: Final = 2048
"""Of one line without its end: four times what RFC 5321 §4.5.3 allows, as MTAs read it."""

MAX_REPLY_LINES: Final = 100
"""Long replies to EHLO have some 20 lines."""

MAX_REPLY_BYTES: Final = 16 * 1024
"""Of one reply, its line ends included."""

MAX_NAME_CHARACTERS: Final = 255
"""Of the name a server gives itself; host names are no longer (RFC 5321 §4.5.3)."""

MAX_SHOWN_CHARACTERS: Final = 200
"""Of a reply that is shown to people."""

_LINE: Final = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)
_SHORT_OF: Final = "..."


class ReplyFault(enum.StrEnum):
    """Why something is no SMTP reply."""

    LINE_TOO_LONG = "line-too-long"
    TOO_MANY_LINES = "too-many-lines"
    TOO_LONG = "too-long"
    NOT_A_REPLY = "not-a-reply"
    """The line does not begin with a code from 200 to 599 and a blank, `-` or nothing."""
    CODE_DIFFERS = "code-differs"
    """The lines of one reply have different codes."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete reply.

    Attributes:
        code: 200 to 599.
        lines: The text of each line, octets as Latin-1; at least one.
    """

    code: int
    lines: tuple[str, ...]

    @property
    def is_positive(self) -> bool:
        """Whether it is 2xx: done."""
        return self.code // 100 == 2  # noqa: PLR2004 - the first digit

    @property
    def is_temporary(self) -> bool:
        """Whether it is 4xx: not now."""
        return self.code // 100 == 4  # noqa: PLR2004 - the first digit

    @property
    def is_permanent(self) -> bool:
        """Whether it is 5xx: no."""
        return self.code // 100 == 5  # noqa: PLR2004 - the first digit

    @property
    def shown(self) -> str:
        """Code and text for people: printable ASCII on one line, cut short."""
        return printable(f"{self.code} {' / '.join(self.lines)}".rstrip(), MAX_SHOWN_CHARACTERS)


@dataclass(frozen=True, slots=True)
class MalformedReply:
    """What came is no reply.

    Attributes:
        fault: Why.
        shown: The line in question for people: printable ASCII, cut short.
    """

    fault: ReplyFault
    shown: str

    def __str__(self) -> str:
        return f"{_SENTENCES[self.fault]}: `{self.shown}`"


ReadReply: TypeAlias = Reply | MalformedReply

_SENTENCES: Final = {
    ReplyFault.LINE_TOO_LONG: f"a line of a reply has more than {MAX_LINE_BYTES} octets",
    ReplyFault.TOO_MANY_LINES: f"a reply has more than {MAX_REPLY_LINES} lines",
    ReplyFault.TOO_LONG: f"a reply has more than {MAX_REPLY_BYTES} octets",
    ReplyFault.NOT_A_REPLY: "this is no SMTP reply",
    ReplyFault.CODE_DIFFERS: "the lines of one reply have different codes",
}


class ReplyReader:
    """Takes replies out of a stream, one at a time.

    Holds at most one reply and what was fed behind it.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._code = 0
        self._lines: list[str] = []
        self._size = 0
        self._malformed: MalformedReply | None = None

    @property
    def left_over(self) -> bytes:
        """Octets that came behind the reply that was given last."""
        return self._buffer

    @property
    def has_begun(self) -> bool:
        """Whether any octet of a reply that is not complete has come."""
        return bool(self._buffer or self._lines)

    def feed(self, data: bytes = b"") -> ReadReply | None:
        """Take octets, and give the next reply.

        Args:
            data: What came; nothing, to ask for a reply in what is left over.

        Returns:
            None: more octets are needed. After a MalformedReply, that one again and again.
        """
        if self._malformed is not None:
            return self._malformed
        self._buffer += data
        while (end := self._buffer.find(b"\n", 0, MAX_LINE_BYTES + 2)) >= 0:
            line, self._buffer = self._buffer[:end], self._buffer[end + 1 :]
            done = self._take(line.removesuffix(b"\r"), end + 1)
            if done is not None:
                return done
        # One more than the longest line: it may be the CR before its LF.
        if len(self._buffer) > MAX_LINE_BYTES + 1:
            return self._refuse(ReplyFault.LINE_TOO_LONG, self._buffer)
        return None

    def _take(self, line: bytes, size: int) -> ReadReply | None:
        """Take a line; give the reply if it was the last one."""
        self._size += size
        if len(line) > MAX_LINE_BYTES:
            return self._refuse(ReplyFault.LINE_TOO_LONG, line)
        if self._size > MAX_REPLY_BYTES:
            return self._refuse(ReplyFault.TOO_LONG, line)
        found = _LINE.fullmatch(line)
        if found is None:
            return self._refuse(ReplyFault.NOT_A_REPLY, line)
        code = int(found[1])
        if self._lines and code != self._code:
            # RFC 5321 §4.2.1: the same code on every line.
            return self._refuse(ReplyFault.CODE_DIFFERS, line)
        if len(self._lines) == MAX_REPLY_LINES:
            return self._refuse(ReplyFault.TOO_MANY_LINES, line)
        self._code = code
        self._lines.append((found[3] or b"").decode("latin-1"))
        return None if found[2] == b"-" else self._finish()

    def _finish(self) -> Reply:
        reply = Reply(self._code, tuple(self._lines))
        self._lines, self._code, self._size = [], 0, 0
        return reply

    def _refuse(self, fault: ReplyFault, line: bytes) -> MalformedReply:
        self._buffer = b""
        # Fed in one piece or in many, the same octets of the line are shown.
        text = line[: MAX_LINE_BYTES + 1].decode("latin-1")
        self._malformed = MalformedReply(fault, printable(text, MAX_SHOWN_CHARACTERS))
        return self._malformed


def capabilities(reply: Reply) -> dict[str, str]:
    """What a reply to EHLO offers: keyword in upper case -> its parameters.

    Spec: RFC 5321 §4.1.1.1: the first line is no keyword, their case does not matter.
    """
    offered: dict[str, str] = {}
    for line in reply.lines[1:]:
        keyword, _, parameters = line.strip().partition(" ")
        if keyword:
            offered.setdefault(keyword.upper(), parameters.strip())
    return offered


def server_name(reply: Reply) -> str:
    """The name a server gives itself in its greeting or its reply to EHLO or HELO.

    Returns:
        Printable ASCII, cut short; "" where there is none.
    """
    words = reply.lines[0].split()
    return printable(words[0], MAX_NAME_CHARACTERS) if words else ""


def printable(text: str, limit: int) -> str:
    """Foreign text as printable ASCII, the rest escaped.

    Args:
        text: Anything.
        limit: Characters of the result; what is cut short ends in dots.
    """
    # Back-quotes are escaped, since they are what foreign text is put between in sentences.
    shown = ascii(text[: limit + 1])[1:-1].replace("`", "\\x60")
    return shown if len(shown) <= limit else shown[: limit - len(_SHORT_OF)] + _SHORT_OF
