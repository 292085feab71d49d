# SPDX-License-Identifier: Apache-2.0
"""The JSON Schema of a result, made of the classes in `core.check.result` and their docstrings.

`scripts/generate` writes it to `check.schema.json` beside this module. What writes and reads
results is `checker.codec`; it does not need this module.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import textwrap
import typing
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from strictmail.core.check import result as values
from strictmail.core.check.facts import ProbeOutcome, UnknownReason
from strictmail.core.check.result import SCHEMA_VERSION, CheckResult
from strictmail.core.mxset import MxStatus, TlsaState

if TYPE_CHECKING:
    import enum

SCHEMA_ID: Final = f"urn:strictmail:check:{SCHEMA_VERSION}"
"""Names the schema and its version; nothing has to be fetched to use it."""

SCHEMA_FILE: Final = "check.schema.json"
"""Beside this module, so that it is installed with it."""

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_WORD_LISTS: Final[dict[str, type[enum.Enum]]] = {
    "mxset.MxStatus": MxStatus,
    "mxset.TlsaState": TlsaState,
    "facts.ProbeOutcome": ProbeOutcome,
}
"""What docstrings point at in the code; a reader of the schema gets the words themselves."""


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of one result, with what the docstrings say of each member."""
    (top,), components = msgspec.json.schema_components(
        [CheckResult], ref_template="#/$defs/{name}"
    )
    for name, component in components.items():
        kind: Any = getattr(values, name)
        component["description"] = _first_paragraph(kind)
        if "properties" in component:
            _describe_members(component["properties"], kind)
        else:
            component["description"] += "\n\n" + _describe_words(kind)
    components["CheckResult"]["properties"]["schema"]["const"] = SCHEMA_VERSION
    return {
        "$schema": _DIALECT,
        "$id": SCHEMA_ID,
        "title": "Result of `strictmail check`",
        **top,
        "$defs": dict(sorted(components.items())),
    }


def schema_text() -> str:
    """`check.schema.json`, as it has to be."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=True) + "\n"


def _first_paragraph(kind: type) -> str:
    return " ".join(inspect.getdoc(kind).partition("\n\n")[0].split())  # type: ignore[union-attr]


def _describe_members(properties: dict[str, Any], kind: type) -> None:
    sentences = _attributes(inspect.getdoc(kind) or "")
    types = typing.get_type_hints(kind)
    for name, member in properties.items():
        # A reference may have siblings since draft 2019-09.
        member["description"] = _spell_out(sentences[name])
        if types[name] is datetime:
            member["format"] = "date-time"
    if "unknown" in properties:
        words = ", ".join(f"`{word.value}`" for word in UnknownReason)
        properties["unknown"]["description"] += f" One of: {words}."


def _attributes(docstring: str) -> dict[str, str]:
    """The sentences of a Google docstring's `Attributes:`, by name."""
    section = textwrap.dedent(docstring.partition("Attributes:\n")[2])
    entries = re.split(r"\n(?=\S)", section.strip())
    pairs = (entry.partition(":") for entry in entries)
    return {name: " ".join(sentence.split()) for name, _, sentence in pairs}


def _spell_out(sentence: str) -> str:
    for pointer, words in _WORD_LISTS.items():
        listed = ", ".join(f"`{word.value}`" for word in words)
        sentence = sentence.replace(f"see `{pointer}`", f"one of {listed}")
        sentence = sentence.replace(f"See `{pointer}`", f"One of {listed}")
    return sentence.replace("SCHEMA_VERSION", f"Version of this schema: {SCHEMA_VERSION}")


def _describe_words(kind: type[enum.Enum]) -> str:
    """A line for each word of an enumeration, with the docstring under it in the source."""
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    said: dict[str, str] = {}
    for before, after in zip(body.body, [*body.body[1:], None], strict=True):
        if isinstance(before, ast.Assign) and isinstance(before.targets[0], ast.Name):
            documented = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            said[before.targets[0].id] = str(after.value.value) if documented else ""  # type: ignore[union-attr]
    return "\n".join(
        f"- `{word.value}`" + (f": {' '.join(said[word.name].split())}" if said[word.name] else "")
        for word in kind
    )
