# SPDX-License-Identifier: Apache-2.0
"""The requirement catalogue `spec/`, held against what the code says: who obeys it, where, shown by what.

Reads `spec/*.toml`, the citations in `src/` (comments and docstrings that name ids), the marks
`pytest.mark.req(...)` in `tests/`, `req` of `vectors/*.json` and the requirements of the lab's
zoo. `render` writes `docs/requirements.md` from it; `tests/docs/test_spec.py` holds it to the rules.
"""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
import tomllib
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

ROOT: Final = Path(__file__).resolve().parent.parent

STATUSES: Final = {
    "implemented": "strictmail obeys it: cited in the source, decided by tests that can fail",
    "delegated": "the MTA (Postfix, Exim, sendmail) obeys it in the session; end-to-end tests show it",
    "owner": "for domain owners: the publishing roles and the checker will need it",
    "reporting": "for the TLS reporting roles",
    "mta": "for mail servers; strictmail carries no mail of others",
    "declined": "allowed to be left out, and left out; the reason is given",
}

_ID: Final = re.compile(r"\b((?:[A-Z]+-)+)([0-9]+)((?:, ?-[0-9]+)*)(?![0-9A-Za-z])")
FAMILIES: Final = frozenset(
    {
        "DANE",
        "OPS",
        "RPT-DLV",
        "RPT-JSON",
        "RPT-RCV",
        "RPT-REC",
        "RTLS",
        "SEC",
        "STS-APP",
        "STS-FET",
        "STS-POL",
        "STS-REC",
    }
)
"""Families of ids that `spec/` has."""

OTHER_FAMILIES: Final = frozenset({"LEG"})
"""Families that later parts of the program will bring; shared vectors and values name them already."""

MOST_SHOWN: Final = 3
"""Tests and places named in the table for one requirement."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One row of `spec/`.

    Attributes:
        requirement_id: Such as `STS-REC-04`.
        group: The file it is in, without suffix.
        level: MUST, MUST NOT, SHOULD, SHOULD NOT, MAY or BCP; `(d)` behind: derived.
        source: RFC numbers with sections.
        text: What has to hold.
        status: One of STATUSES.
        reason: Why it is not implemented here, or what is to be known beside.
        departs: Where and why we do otherwise.
        reason_no_citation: Why no line of the source is named.
    """

    requirement_id: str
    group: str
    level: str
    source: str
    text: str
    status: str
    reason: str = ""
    departs: str = ""
    reason_no_citation: str = ""

    @property
    def is_must(self) -> bool:
        """Whether it is of force MUST or MUST NOT, derived or not."""
        return self.level.startswith("MUST")


@dataclass(slots=True)
class Evidence:
    """What was found of one requirement.

    Attributes:
        places: Where the source cites it: `path:function`, relative to `src/strictmail`.
        lab_places: The same, in the lab.
        tests: `path::function` (or the path alone) of tests marked with it.
        vectors: How many shared vectors decide it, by class.
        zoo: Names of zoo entries that show it.
    """

    places: set[str] = field(default_factory=set)
    lab_places: set[str] = field(default_factory=set)
    tests: set[str] = field(default_factory=set)
    vectors: Counter[str] = field(default_factory=Counter)
    zoo: list[str] = field(default_factory=list)

    @property
    def is_tested(self) -> bool:
        """Whether anything can turn red."""
        return bool(self.tests or self.vectors or self.zoo)

    @property
    def is_shown_end_to_end(self) -> bool:
        """Whether a real MTA is held to it: the zoo, or a test of its own."""
        return bool(self.zoo) or any(test.startswith("tests/e2e/") for test in self.tests)


@dataclass(frozen=True, slots=True)
class Mark:
    """An id named by a test: where."""

    requirement_id: str
    test: str


# ---- the catalogue ------------------------------------------------------------------------------


@cache
def requirements() -> Mapping[str, Requirement]:
    """Every row of `spec/`, in the order of the files."""
    rows: dict[str, Requirement] = {}
    for path in sorted((ROOT / "spec").glob("*.toml")):
        for key, row in tomllib.loads(path.read_text("utf-8")).items():
            if key in rows:
                raise ValueError(f"{path.name}: {key} is there twice")
            rows[key] = Requirement(requirement_id=key, group=path.stem, **row)
    return rows


def ids_in(text: str) -> Iterator[str]:
    """The ids that a text names, `STS-APP-55, -59` written out."""
    for family, number, more in _ID.findall(text):
        if family[:-1] in FAMILIES | OTHER_FAMILIES:
            yield f"{family}{number}"
            yield from (f"{family}{other}" for other in re.findall(r"[0-9]+", more))


# ---- the source ---------------------------------------------------------------------------------


def citations() -> Iterator[tuple[str, str]]:
    """(id, `path:function`) for each id that a comment or docstring of the source names."""
    for path in sorted((ROOT / "src").rglob("*.py")):
        place = str(path.relative_to(ROOT / "src" / "strictmail"))
        text = path.read_text("utf-8")
        functions = _spans(ast.parse(text))
        for line, remark in remarks(text):
            where = _innermost(functions, line)
            for requirement_id in ids_in(remark):
                yield requirement_id, f"{place}:{where}" if where else place


def remarks(source: str) -> Iterator[tuple[int, str]]:
    """(line, text) of each run of comments and of each docstring of a module."""
    run: list[str] = []
    first = last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        line = token.start[0]
        if run and line != last + 1:
            yield first, " ".join(run)
            run = []
        first, last = (first if run else line), line
        run.append(token.string.lstrip("# "))
    if run:
        yield first, " ".join(run)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            text = node.value.value
            if isinstance(text, str):
                yield node.lineno, " ".join(text.split())


def _spans(tree: ast.Module) -> list[tuple[int, int, str]]:
    """(first line, last line, qualified name) of each function and class."""
    found: list[tuple[int, int, str]] = []

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = f"{prefix}{child.name}"
                start = min([child.lineno, *(d.lineno for d in child.decorator_list)])
                found.append((start, child.end_lineno or start, name))
                visit(child, f"{name}.")
            else:
                visit(child, prefix)

    visit(tree, "")
    return found


def _innermost(spans: Iterable[tuple[int, int, str]], line: int) -> str:
    inside = [(last - first, name) for first, last, name in spans if first <= line <= last]
    return min(inside)[1] if inside else ""


# ---- tests, vectors, zoo ------------------------------------------------------------------------


def marks() -> Iterator[Mark]:
    """Every id that a test is marked with, literally or by a table in its module."""
    for path in sorted((ROOT / "tests").rglob("*.py")):
        yield from marks_in(path.read_text("utf-8"), str(path.relative_to(ROOT)))


def marks_in(source: str, path: str) -> Iterator[Mark]:
    """The marks of one module.

    Raises:
        ValueError: A mark whose ids cannot be read from the module.
    """
    tree = ast.parse(source)
    owners: dict[ast.Call, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for decorator in node.decorator_list:
                owners.update(dict.fromkeys(_req_calls(decorator), node.name))
    for call in _req_calls(tree):
        name = owners.get(call, "")
        for argument in call.args:
            for requirement_id in _ids_of(argument, tree, path):
                yield Mark(requirement_id, f"{path}::{name}" if name else path)


def _req_calls(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr="req", value=owner)):
                if ast.unparse(owner).endswith("mark"):
                    yield node


def _ids_of(argument: ast.expr, tree: ast.Module, path: str) -> Iterable[str]:
    match argument:
        case ast.Constant(value=str(text)):
            return [text]
        case (
            ast.Attribute(attr="requirement")
            | ast.Starred(value=ast.Attribute(attr="requirements"))
        ):
            return []  # of vectors and of the zoo: counted there
        case ast.Starred():
            names = {node.id for node in ast.walk(argument) if isinstance(node, ast.Name)}
            parts = [argument, *_assigned(tree, names), *_passed(tree, argument)]
            texts = [text for part in parts for text in _strings(part)]
            found = list(dict.fromkeys(i for text in texts for i in ids_in(text) if i == text))
            if found:
                return found
    raise ValueError(f"{path}:{argument.lineno}: ids of a mark that nobody can read")


def _assigned(tree: ast.Module, names: set[str]) -> Iterator[ast.AST]:
    """The module's tables of these names."""
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign):
            targets = [node.target]
        if any(isinstance(target, ast.Name) and target.id in names for target in targets):
            yield node


def _passed(tree: ast.Module, argument: ast.Starred) -> Iterator[ast.AST]:
    """The calls of the function that hands its own `*ids` on to a mark."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and any(part is argument for part in ast.walk(node)):
            yield from _calls_of(tree, node.name)


def _calls_of(tree: ast.Module, name: str) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=called)) if called == name:
                yield node


def _strings(node: ast.AST) -> Iterator[str]:
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value


def vectors() -> Iterator[tuple[str, str, str]]:
    """(file, class, id) for each shared vector."""
    for path in sorted((ROOT / "vectors").glob("*.json")):
        for vector in json.loads(path.read_text("utf-8"))["vectors"]:
            named = vector["req"]
            for requirement_id in [named] if isinstance(named, str) else named:
                yield path.name, vector["c"], requirement_id


def zoo() -> Iterator[tuple[str, str]]:
    """(entry, id) for each inhabitant of the lab's zoo."""
    from strictmail.lab.zoo import ZOO

    for entry in ZOO:
        for requirement_id in entry.requirements:
            yield entry.name, requirement_id


@cache
def evidence() -> Mapping[str, Evidence]:
    """What there is for each id that is named anywhere."""
    found: defaultdict[str, Evidence] = defaultdict(Evidence)
    for requirement_id, place in citations():
        one = found[requirement_id]
        (one.lab_places if place.startswith("lab/") else one.places).add(place)
    for mark in marks():
        found[mark.requirement_id].tests.add(mark.test)
    for _, vector_class, requirement_id in vectors():
        found[requirement_id].vectors[vector_class] += 1
    for name, requirement_id in zoo():
        found[requirement_id].zoo.append(name)
    return found


# ---- the table ----------------------------------------------------------------------------------

TITLES: Final = {
    "dane": "DANE for SMTP",
    "security": "Security considerations",
    "sts-application": "MTA-STS: application of a policy",
    "sts-fetch": "MTA-STS: fetch of a policy",
    "sts-policy": "MTA-STS: the policy body",
    "sts-record": "MTA-STS: the TXT record",
    "tlsrpt-record": "TLSRPT: the TXT record",
    "tlsrpt-report": "TLSRPT: the report",
    "tlsrpt-delivery": "TLSRPT: delivery",
    "tlsrpt-receiving": "TLSRPT: receiving",
    "owner": "Domain owners",
    "requiretls": "REQUIRETLS and TLS-Required",
}
"""Every file of `spec/`, in the order of the table."""

LEVELS: Final = ("MUST", "SHOULD", "MAY", "BCP")

INTRODUCTION: Final = (
    "{count} requirements on a sender, from the RFCs and from good practice, each a row of "
    "`spec/`. `(d)`: not spelled out in the source, but it follows. `BCP`: good practice that no "
    "standard commands."
)


def render() -> str:
    """`docs/requirements.md`."""
    rows = list(requirements().values())
    groups = {group: [r for r in rows if r.group == group] for group in TITLES}
    levels = {word: [r for r in rows if r.level.startswith(word)] for word in LEVELS}
    lines = [
        "<!-- generated by scripts/generate from spec/, src/, tests/, vectors/ and the zoo -->",
        "# Requirements",
        "",
        INTRODUCTION.format(count=len(rows)),
        "",
        *(f"- **{status}**: {meaning}." for status, meaning in STATUSES.items()),
        "",
        f"| | {' | '.join(STATUSES)} | all |",
        f"|---|{'---|' * (len(STATUSES) + 1)}",
    ]
    lines += [_counts(f"[{TITLES[name]}](#{name})", group) for name, group in groups.items()]
    lines += [_counts(word, of_level) for word, of_level in levels.items()]
    lines.append(_counts("all", rows))
    for name, group in groups.items():
        lines += ["", f'<a id="{name}"></a>', "", f"## {TITLES[name]}", ""]
        lines += ["| Id | Level | Source | Requirement | Status | Where | Shown by |"]
        lines += ["|---|---|---|---|---|---|---|"]
        lines += map(_row, group)
    return "\n".join(lines) + "\n"


def _counts(title: str, rows: Sequence[Requirement]) -> str:
    counts = Counter(row.status for row in rows)
    return f"| {title} | {' | '.join(str(counts[s]) for s in STATUSES)} | {len(rows)} |"


def _row(row: Requirement) -> str:
    found = evidence().get(row.requirement_id, Evidence())
    status = row.status + (f": {row.reason}" if row.reason else "")
    if row.departs:
        status += f" **Departs:** {row.departs}"
    cells = (
        row.requirement_id,
        row.level,
        row.source,
        row.text,
        status,
        _few([f"`{place}`" for place in sorted(found.places)]),
        _few([*_shown_vectors(found), *_shown_zoo(found), *_shown_tests(found)]),
    )
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _shown_vectors(found: Evidence) -> list[str]:
    if not found.vectors:
        return []
    return [f"vectors: {', '.join(f'{name} x{n}' for name, n in sorted(found.vectors.items()))}"]


def _shown_zoo(found: Evidence) -> list[str]:
    if not found.zoo:
        return []
    more = len(found.zoo) - MOST_SHOWN
    names = ", ".join(found.zoo[:MOST_SHOWN]) + (f" and {more} more" if more > 0 else "")
    return [f"zoo: {names}"]


def _shown_tests(found: Evidence) -> list[str]:
    return [f"`{test.removeprefix('tests/')}`" for test in sorted(found.tests)]


def _few(items: Sequence[str]) -> str:
    more = len(items) - MOST_SHOWN
    return "<br>".join([*items[:MOST_SHOWN], *([f"and {more} more"] if more > 0 else [])])
