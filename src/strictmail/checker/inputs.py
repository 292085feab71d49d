# SPDX-License-Identifier: Apache-2.0
"""What people type, paste or list as a domain: the domain they mean, or what to do instead.

Pure. Knows the forms around a name (mail addresses, URLs, ports, quotes, what a web page leaves
behind when it is copied); what a name itself may look like, `core.names` knows.

::

    text → invisible characters out → blanks, quotes, brackets off → which form is it?
         → the name inside → parse_domain → Meant(domain, note)

A fault names the place in the text as it was typed, and the fix.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from strictmail.core.errors import DomainSyntaxError
from strictmail.core.names import Domain, is_address, parent, parse_domain
from strictmail.core.tagrecord import quote

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_TYPED_CHARACTERS: Final = 2048
"""The longest text that is looked at: a long URL; a name has 253 characters at most."""

_INVISIBLE: Final = frozenset(
    "\u00ad\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
)
"""Soft hyphen, zero width space, word joiner, byte order mark, marks of direction."""

_JOINERS: Final = frozenset("\u200c\u200d")
"""Part of some names in Arabic and Indic scripts (RFC 5892 appendix A.1), of no ASCII one."""

_WRAPPINGS: Final = {
    '"': '"',
    "'": "'",
    "`": "`",
    "<": ">",
    "(": ")",
    "{": "}",
    "\u201c": "\u201d",
    "\u201e": "\u201c",
    "\u2018": "\u2019",
    "\u00ab": "\u00bb",
}
"""What stands around a name in prose, by what opens it."""

_SEPARATORS: Final = ",;|"

_PLAIN: Final = re.compile(r"(?:[a-z0-9-]{1,63}\.){1,9}[a-z]{2,}")
"""What nearly every line of a list is; nothing is to be understood in it."""

_PORT: Final = re.compile(r"[0-9]{1,5}")

_OPTION: Final = re.compile(r"(--?|[\u2010-\u2015])[A-Za-z]")

_SCHEME: Final = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?//")

_RECORD_LABELS: Final = frozenset({"_mta-sts", "_smtp", "_tls", "_tcp", "_dmarc", "_domainkey"})
"""Names of records that stand above the domain they speak of."""

_FILE_ENDINGS: Final = frozenset(
    {"txt", "csv", "tsv", "lst", "list", "json", "jsonl", "gz", "log", "dat", "xlsx", "xls"}
)
"""Endings of list files; none is a top-level domain."""

_WELL_KNOWN: Final = "/.well-known/mta-sts.txt"


class Form(enum.Enum):
    """How a domain was written; the value says it in a sentence."""

    NAME = "a name"
    ADDRESS = "a mail address"
    URL = "a URL"
    PORT = "a host and a port"
    NEXTHOP = "a next-hop in brackets"
    RECORD = "the name of a record"


@dataclass(frozen=True, slots=True)
class Meant:
    """A domain that was understood.

    Attributes:
        domain: What to check.
        form: How it was written.
        note: What was made of the text, as a sentence; "" where it was taken as it stands.
    """

    domain: Domain
    form: Form = Form.NAME
    note: str = ""


class _Text:
    """A part of what was typed, that knows where it stood."""

    def __init__(self, whole: str, places: list[int] | None = None) -> None:
        self.whole = whole
        self.places = list(range(len(whole))) if places is None else places

    def __str__(self) -> str:
        return "".join(self.whole[place] for place in self.places)

    def part(self, start: int, end: int | None = None) -> _Text:
        """The characters from `start` to before `end`."""
        return _Text(self.whole, self.places[start:end])

    def without(self, characters: frozenset[str]) -> _Text:
        """What is left without some characters."""
        return _Text(self.whole, [p for p in self.places if self.whole[p] not in characters])

    def stripped(self) -> _Text:
        """Without blanks of any kind at either end."""
        text = str(self)
        start = len(text) - len(text.lstrip())
        return self.part(start, max(start, len(text.rstrip())))

    def fault(self, message: str, position: int | None = 0) -> DomainSyntaxError:
        """A fault at an offset in this part."""
        place = None
        if position is not None:
            behind = self.places[-1] + 1 if self.places else 0
            place = self.places[position] if position < len(self.places) else behind
        return DomainSyntaxError(message, text=self.whole, position=place)


def read_domain(text: str, *, exists: Callable[[str], bool] | None = None) -> Meant:
    """Understand what somebody gave for a domain.

    Args:
        text: As typed.
        exists: Whether a file of this name exists, to recognise a list given as a domain; None:
            do not look.

    Raises:
        DomainSyntaxError: No domain can be made of it. The message says what to do, `position`
            is the offset in `text`.
    """
    if len(text) > MAX_TYPED_CHARACTERS:
        raise DomainSyntaxError(
            f"{len(text)} characters are no domain: a name has at most 253", text=text
        )
    ending = text.rpartition(".")[2]
    if _PLAIN.fullmatch(text) and ending not in _FILE_ENDINGS and text[0] != "-":
        return Meant(parse_domain(text))
    typed = _Text(text)
    bare = _unwrap(_visible(typed))
    shown = str(bare)
    if not shown:
        raise typed.fault("empty: give a domain such as example.com", None)
    if _OPTION.match(shown):
        raise bare.fault(
            f"{quote(shown)} looks like an option that does not exist: see `strictmail check --help`"
        )
    if exists is not None and _is_list_file(shown, exists):
        raise bare.fault(f"{quote(shown)} is a file: to check the domains in it, use `--from FILE`")
    _refuse_several(bare)
    host, form = _inside(bare)
    meant = _read_name(host)
    if meant.form is Form.RECORD:
        form = Form.RECORD
    return Meant(meant.domain, form, _note(text, typed, meant, form))


def domain_meant(text: str) -> str:
    """The domain of a mail address or URL that somebody typed for a next-hop, or ""."""
    try:
        meant = read_domain(text)
    except DomainSyntaxError:
        return ""
    return meant.domain if meant.form in (Form.ADDRESS, Form.URL) else ""


def _visible(typed: _Text) -> _Text:
    seen = typed.without(_INVISIBLE)
    bare = seen.without(_JOINERS)
    return (bare if str(bare).isascii() else seen).stripped()


def _unwrap(text: _Text) -> _Text:
    """Take off what stands around a name in prose, one layer after the other."""
    while True:
        shown = str(text)
        if len(shown) > 1 and _WRAPPINGS.get(shown[0]) == shown[-1]:
            text = text.part(1, -1).stripped()
        elif shown.endswith(tuple(_SEPARATORS)):
            text = text.part(0, -1).stripped()
        elif shown.endswith(">") and "<" in shown:
            # RFC 5322 §3.4: `Name <user@example.com>`.
            text = text.part(shown.rindex("<") + 1, -1).stripped()
        else:
            return text


def _is_list_file(shown: str, exists: Callable[[str], bool]) -> bool:
    # A directory or file called example.com is common, and the domain is what is meant.
    ending = shown.rpartition(".")[2].lower()
    is_pathlike = "/" in shown or "." not in shown or ending in _FILE_ENDINGS
    return is_pathlike and "://" not in shown and exists(shown)


def _refuse_several(text: _Text) -> None:
    shown = str(text)
    found = re.search(rf"[\s{_SEPARATORS}]+", shown)
    if found is None:
        return
    parts = [part for part in re.split(rf"[\s{_SEPARATORS}]+", shown) if part]
    if len(parts) == 2 and found.group() == "," and "." not in shown:  # noqa: PLR2004 - name and TLD
        raise text.fault(f"a comma in place of a dot? Try {quote('.'.join(parts))}", found.start())
    listed = ", ".join(quote(part) for part in parts[:3]) + (", ..." if len(parts) > 3 else "")  # noqa: PLR2004
    raise text.fault(
        f"{len(parts)} words where one domain was expected ({listed}): give each domain as an "
        "argument, or on a line, of its own",
        found.start(),
    )


def _inside(text: _Text) -> tuple[_Text, Form]:
    """The name in a text, and the form it was in."""
    shown = str(text)
    if shown.lower().startswith("mailto:"):
        # RFC 6068 §2: addresses, then perhaps `?` and header fields.
        end = shown.find("?")
        text = text.part(len("mailto:"), end if end >= 0 else None)
        return _without_port(_behind_at(text))[0], Form.ADDRESS
    scheme = _SCHEME.match(shown)
    if scheme is not None:
        return _of_url(text.part(scheme.end())), Form.URL
    if "@" in shown:
        return _without_port(_behind_at(text))[0], Form.ADDRESS
    if "/" in shown:
        return _of_path(text), Form.URL
    return _without_port(text)


def _behind_at(text: _Text) -> _Text:
    host = text.part(str(text).rfind("@") + 1)
    if not str(host):
        raise text.fault("nothing behind the `@`: the domain is missing", len(str(text)))
    return host


def _of_url(text: _Text) -> _Text:
    """The host of what stands behind `//`."""
    shown = str(text)
    # RFC 3986 §3.2: the authority ends at the next `/`, `?` or `#`.
    end = min((at for at in map(shown.find, "/?#") if at >= 0), default=len(shown))
    authority = text.part(0, end)
    if not str(authority):
        raise text.fault("a URL without a host: give the domain alone, such as example.com")
    host, _ = _without_port(authority.part(str(authority).rfind("@") + 1))
    if shown[end:] == _WELL_KNOWN and str(host).lower().startswith("mta-sts."):
        # RFC 8461 §3.2: the policy host of example.com is mta-sts.example.com.
        return host.part(len("mta-sts."))
    return host


def _of_path(text: _Text) -> _Text:
    """`example.com/x`: a URL without its scheme, or the path of a file that is not there."""
    shown = str(text)
    host = shown.partition("/")[0]
    if "." not in host.strip(".") or host.rpartition(".")[2].lower() in _FILE_ENDINGS:
        raise text.fault(
            f"{quote(shown)} is a path, and no such file was found: the domains of a list are "
            "checked with `--from FILE`",
            shown.index("/"),
        )
    return _of_url(text)


def _without_port(text: _Text) -> tuple[_Text, Form]:
    shown = str(text)
    if shown.startswith("["):
        return _in_brackets(text)
    if is_address(shown):
        raise _address_fault(text, shown)
    if ":" not in shown:
        return text, Form.NAME
    host, _, port = shown.rpartition(":")
    if is_address(host):
        raise _address_fault(text, host)
    if not _PORT.fullmatch(port) or ":" in host:
        raise text.fault(
            "`:` cannot stand in a domain name: give the name alone, without port or transport",
            shown.index(":"),
        )
    return text.part(0, len(host)), Form.PORT


def _in_brackets(text: _Text) -> tuple[_Text, Form]:
    shown = str(text)
    end = shown.find("]")
    if end < 0:
        raise text.fault("`[` without `]`: give the domain alone, such as example.com")
    inner = shown[1:end].strip()
    literal = inner[5:] if inner.lower().startswith("ipv6:") else inner
    if is_address(literal) or not inner:
        raise _address_fault(text, literal)
    rest = shown[end + 1 :]
    if rest and not (rest.startswith(":") and _PORT.fullmatch(rest[1:])):
        raise text.fault("behind `]` comes nothing, or `:` and a port", end + 1)
    return text.part(1, end).stripped(), Form.NEXTHOP


def _address_fault(text: _Text, address: str) -> DomainSyntaxError:
    # RFC 8461 §2, RFC 7672 §2.2: policies belong to domains; an address has none.
    return text.fault(
        f"{quote(address)} is an address, not a domain: MTA-STS and DANE are published by "
        "domains. Check the domain whose mail goes there",
        0,
    )


def _read_name(host: _Text) -> Meant:
    shown = str(host)
    if shown.startswith("*.") and shown.strip("*."):
        raise host.fault(
            f"a wildcard is no domain that mail goes to: check {quote(shown[2:])}, or a name "
            "below it"
        )
    if shown.startswith(".") and shown.strip("."):
        raise host.fault(f"a dot at the start: check {quote(shown.lstrip('.'))}")
    try:
        domain = parse_domain(shown)
    except DomainSyntaxError as error:
        raise _located(host, error) from error
    last = domain.rpartition(".")[2]
    if last.isdigit():
        # RFC 3696 §2: no top-level domain is all digits.
        raise host.fault(
            f"no top-level domain is a number: is {quote(shown)} a mistyped address?",
            max(0, len(shown.rstrip(".")) - len(last)),
        )
    if last in _FILE_ENDINGS and last != domain:
        raise host.fault(
            f"there is no top-level domain {quote(last)}: is {quote(shown)} a file that is not "
            "here? The domains of a list are checked with `--from FILE`",
            max(0, len(shown.rstrip(".")) - len(last)),
        )
    below = _below_records(domain)
    return Meant(below, Form.RECORD if below != domain else Form.NAME)


def _below_records(domain: Domain) -> Domain:
    """The domain that a name such as `_mta-sts.example.com` speaks of."""
    while (first := domain.partition(".")[0]) and parent(domain):
        if first not in _RECORD_LABELS and not (first[0] == "_" and first[1:].isdigit()):
            break
        domain = Domain(parent(domain))
    return domain


def _located(host: _Text, error: DomainSyntaxError) -> DomainSyntaxError:
    """The fault of a name, at its place in what was typed."""
    shown = str(host)
    message = str(error)
    if ".." in shown:
        return host.fault("two dots in a row: remove one", shown.index(".."))
    if shown.isascii():
        return host.fault(message, error.position)
    start = 0
    for label in re.split("[.\u3002\uff0e\uff61]", shown):
        try:
            parse_domain(label)
        except DomainSyntaxError as fault:
            return host.fault(f"{quote(label)}: {fault}", start)
        start += len(label) + 1
    return host.fault(message, error.position)


def _note(text: str, typed: _Text, meant: Meant, form: Form) -> str:
    notes = []
    if form is not Form.NAME:
        notes.append(f"{quote(text.strip())} is {form.value}: checking {meant.domain}")
    gone = sorted({c for c in text if c in _INVISIBLE | _JOINERS} - set(str(_visible(typed))))
    if gone:
        codes = ", ".join(f"U+{ord(c):04X}" for c in gone)
        notes.append(f"invisible characters were left out: {codes}")
    if form is Form.NAME and not text.isascii() and "xn--" in meant.domain:
        notes.append(f"{quote(text.strip())} is {meant.domain} in DNS")
    if "_" in meant.domain:
        notes.append("an underscore cannot stand in a mail domain (RFC 5321 §4.1.2)")
    if "." not in meant.domain:
        notes.append(f"{meant.domain} is a single label: a top-level domain or a local name")
    return "; ".join(notes)
