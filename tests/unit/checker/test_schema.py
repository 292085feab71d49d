# SPDX-License-Identifier: Apache-2.0
"""The JSON Schema: what the code says, what is installed, and what results keep to."""

from __future__ import annotations

import json
import re
import zipfile
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hatchling.builders.wheel import WheelBuilder
from hypothesis import given, settings
from tests.unit.checker.render.hostile import hostile_results
from tests.unit.checker.samples import SAMPLES

from strictmail.checker import schema
from strictmail.checker.codec import decode, encode
from strictmail.checker.schema import SCHEMA_FILE, SCHEMA_ID, schema_text
from strictmail.core.check.result import SCHEMA_VERSION
from strictmail.core.errors import SchemaTooNewError, SyntaxFault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from strictmail.core.check.result import CheckResult

ROOT = Path(__file__).resolve().parents[3]
SHIPPED: dict[str, Any] = json.loads(Path(schema.__file__).with_name(SCHEMA_FILE).read_text())
TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}
ANNOTATIONS = {"$schema", "$id", "$defs", "title", "description", "default"}


def faults(value: Any, part: dict[str, Any], place: str = "$") -> Iterator[str]:
    """What a value has against a part of the schema; knows every word that the schema uses.

    Raises:
        KeyError: The schema uses a word that is not known here.
    """
    for word, wanted in part.items():
        if word not in ANNOTATIONS:
            yield from KEYWORDS[word](value, wanted, part, place)


def _reference(value: Any, wanted: str, _part: dict[str, Any], place: str) -> Iterator[str]:
    return faults(value, SHIPPED["$defs"][wanted.removeprefix("#/$defs/")], place)


def _any_of(value: Any, wanted: list[Any], _part: dict[str, Any], place: str) -> Iterator[str]:
    if all(list(faults(value, one, place)) for one in wanted):
        yield f"{place}: fits none"


def _properties(
    value: Any, wanted: dict[str, Any], _part: dict[str, Any], place: str
) -> Iterator[str]:
    for name in wanted.keys() & value if isinstance(value, dict) else ():
        yield from faults(value[name], wanted[name], f"{place}.{name}")


def _items(value: Any, wanted: dict[str, Any], _part: dict[str, Any], place: str) -> Iterator[str]:
    for number, item in enumerate(value if isinstance(value, list) else ()):
        yield from faults(item, wanted, f"{place}[{number}]")


def _simply(holds: Callable[[Any, Any], bool]) -> Callable[..., Iterator[str]]:
    def check(value: Any, wanted: Any, _part: dict[str, Any], place: str) -> Iterator[str]:
        if not holds(value, wanted):
            yield f"{place}: {value!r} is not {wanted!r}"

    return check


KEYWORDS: dict[str, Callable[..., Iterator[str]]] = {
    "$ref": _reference,
    "anyOf": _any_of,
    "properties": _properties,
    "items": _items,
    "type": _simply(lambda value, wanted: TYPES[wanted](value)),
    "enum": _simply(lambda value, wanted: value in wanted),
    "const": _simply(lambda value, wanted: value == wanted),
    "required": _simply(
        lambda value, wanted: not isinstance(value, dict) or value.keys() >= {*wanted}
    ),
    "format": _simply(
        lambda value, wanted: (
            wanted == "date-time" and datetime.fromisoformat(value).tzinfo is not None
        )
    ),
}


# ---- the schema is what the code says, and it is there ------------------------------------------


def test_the_file_is_what_the_code_says() -> None:
    assert Path(schema.__file__).with_name(SCHEMA_FILE).read_text() == schema_text()


def test_the_wheel_has_the_file(tmp_path: Path) -> None:
    builder = WheelBuilder(str(ROOT))
    (wheel,) = builder.build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        packed = archive.read(f"strictmail/checker/{SCHEMA_FILE}")
    assert json.loads(packed) == SHIPPED


def test_it_names_its_version() -> None:
    assert SHIPPED["$id"] == SCHEMA_ID
    assert SHIPPED["$id"].endswith(f":{SCHEMA_VERSION}")
    assert SHIPPED["$defs"]["CheckResult"]["properties"]["schema"]["const"] == SCHEMA_VERSION


@pytest.mark.parametrize("name", sorted(SHIPPED["$defs"]))
def test_everything_is_described_for_a_stranger(name: str) -> None:
    part = SHIPPED["$defs"][name]
    said = [part["description"], *(m["description"] for m in part.get("properties", {}).values())]
    assert all(said)
    # A reader of the schema has no code to look into.
    assert not [text for text in said if re.search(r"`[a-z]+\.[A-Z]|SCHEMA_VERSION", text)]


def test_it_refers_to_what_it_holds() -> None:
    names = re.findall(r'"#/\$defs/(\w+)"', json.dumps(SHIPPED))
    assert set(names) == set(SHIPPED["$defs"])


def test_new_members_may_come() -> None:
    assert "additionalProperties" not in json.dumps(SHIPPED)


# ---- results keep to it -------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_keep_to_it(name: str) -> None:
    assert not list(faults(json.loads(encode(SAMPLES[name]())), SHIPPED))


@settings(max_examples=30)
@given(hostile_results())
def test_hostile_results_keep_to_it(result: CheckResult) -> None:
    assert not list(faults(json.loads(encode(result)), SHIPPED))


def _spoiled() -> Iterator[Any]:
    def broken() -> Any:
        return json.loads(encode(SAMPLES["broken"]()))

    for name, value, place in (
        ("schema", SCHEMA_VERSION + 1, "$.schema"),
        ("status", "fine", "$.status"),
        ("seconds", "6", "$.seconds"),
        ("checked_at", "2026-11-25T09:30:12", "$.checked_at"),
        ("hosts", None, "$.hosts"),
    ):
        document = broken()
        document[name] = value
        yield pytest.param(document, place, id=name)
    document = broken()
    del document["summary"]
    yield pytest.param(document, "$", id="missing")
    document = broken()
    document["hosts"][1]["on_policy"] = "yes"
    yield pytest.param(document, "$.hosts[1].on_policy", id="deep")
    document = broken()
    document["findings"][0]["evidence"][0]["caret"] = 1.5
    yield pytest.param(document, "$.findings[0].evidence[0].caret", id="deeper")


@pytest.mark.parametrize(("document", "place"), list(_spoiled()))
def test_what_is_no_result_does_not(document: Any, place: str) -> None:
    found = list(faults(document, SHIPPED))
    assert [fault.partition(": ")[0] for fault in found] == [place]


# ---- what is written can be read ----------------------------------------------------------------


def test_members_to_come_are_passed_over() -> None:
    result = SAMPLES["good"]()
    document = json.loads(encode(result)) | {"mood": "bright"}
    assert decode(json.dumps(document)) == result


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("hosts", 7, r"\$\.hosts"),
        ("checked_at", "2026-11-25T09:30:12", r"without an offset - at `\$\.checked_at`"),
        ("status", "fine", r"\$\.status"),
    ],
)
def test_a_fault_is_named_with_its_place(name: str, value: object, said: str) -> None:
    document = json.loads(encode(SAMPLES["good"]())) | {name: value}
    with pytest.raises(SyntaxFault, match=said):
        decode(json.dumps(document))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"schema":"\xff"}'])
def test_what_is_no_json_object_is_a_syntax_fault(data: bytes) -> None:
    with pytest.raises(SyntaxFault, match="not a result"):
        decode(data)


def test_a_newer_schema_is_named_as_such() -> None:
    document = json.loads(encode(SAMPLES["good"]()))
    document |= {"schema": SCHEMA_VERSION + 1, "strictmail": "9.9", "hosts": "otherwise"}
    with pytest.raises(SchemaTooNewError, match=r"9\.9"):
        decode(json.dumps(document))
