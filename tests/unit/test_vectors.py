# SPDX-License-Identifier: Apache-2.0
"""Every shared vector is a case; and the runner reports honestly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from strictmail.vectors import RUNNERS, Vector, load_vectors, main, run_vector

VECTORS = Path(__file__).resolve().parents[2] / "vectors"
FILES = sorted(VECTORS.glob("*.json"))


def _cases() -> list[Any]:
    return [
        pytest.param(vector, id=vector.vector_id, marks=pytest.mark.req(vector.requirement))
        for path in FILES
        for vector in load_vectors(path)[0]
        if vector.vector_class in RUNNERS
    ]


@pytest.mark.parametrize("vector", _cases())
def test_vector(vector: Vector) -> None:
    verdict = run_vector(vector)
    assert verdict.passed, f"expected {vector.outcomes}, got {verdict.got}"


def test_the_shared_file_and_our_own_are_there() -> None:
    names = [path.name for path in FILES]
    assert "strictmail-core.json" in names
    assert len([name for name in names if name.startswith("extra-")]) >= 5


def test_vector_ids_are_unique() -> None:
    ids = [vector.vector_id for path in FILES for vector in load_vectors(path)[0]]
    assert len(ids) == len(set(ids))


def test_every_class_has_vectors() -> None:
    classes = {v.vector_class for path in FILES for v in load_vectors(path)[0]}
    assert set(RUNNERS) <= classes


def _file(tmp_path: Path, *vectors: dict[str, Any], **extra: Any) -> str:
    path = tmp_path / "vectors.json"
    content = {"format": {"det": "", "later": "a class of another day"}, "vectors": vectors}
    path.write_text(json.dumps(content | extra), "utf-8")
    return str(path)


def _vector(number: int, vector_class: str, given: Any, out: Any, **extra: Any) -> dict[str, Any]:
    return {"v": f"T-{number}", "c": vector_class, "req": "R-1", "in": given, "out": out} | extra


GOOD = _vector(1, "id-changed", {"cached": "1", "seen": "2"}, out=True)
BAD = _vector(2, "id-changed", {"cached": "1", "seen": "2"}, out=False)
LATER = _vector(3, "later", "anything", "anything")


def test_all_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([_file(tmp_path, GOOD)]) == 0
    assert capsys.readouterr().out == "1 passed, 0 failed\n"


def test_a_failure_is_told_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([_file(tmp_path, GOOD, BAD)]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "FAIL T-2 (R-1): expected false"
    assert out[1].strip() == "got true"
    assert out[-1] == "1 passed, 1 failed"


def test_classes_without_runner_count_as_neither(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([_file(tmp_path, GOOD, LATER)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert "later (1)" in out[-2]
    assert out[-1] == "1 passed, 0 failed"


def test_classes_can_be_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mx = _vector(4, "mx-match", {"p": ["a"], "mx": "a"}, out=True)
    assert main([_file(tmp_path, BAD, mx), "--classes", "mx-match,sts-txt"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 passed, 0 failed"


@pytest.mark.parametrize("classes", ["nonsense", "mx-match,nonsense", "det"])
def test_an_unknown_class_is_refused(tmp_path: Path, classes: str) -> None:
    assert main([_file(tmp_path, GOOD), "--classes", classes]) == 2


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"vectors": [{}]}', '{"vectors": 1}', '{"vectors": [1]}']
)
def test_an_unreadable_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content, "utf-8")
    assert main([str(path)]) == 2


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert main([str(tmp_path / "none.json")]) == 2


def test_alternatives_count_only_where_the_vector_is_lenient(tmp_path: Path) -> None:
    assert main([_file(tmp_path, BAD | {"alt": [True], "det": "lenient-ok"})]) == 0
    assert main([_file(tmp_path, BAD | {"alt": [True]})]) == 1


HOST = {"n": "mx1.rcpt.example"}


@pytest.mark.parametrize(
    ("vector_class", "given", "out"),
    [
        pytest.param("deliver", {"mx": [HOST | {"cert": "odd"}]}, "defer", id="certificate"),
        pytest.param("deliver", {"mx": [HOST | {"dane": "odd"}]}, "defer", id="dane"),
        pytest.param("deliver", {"mx": [HOST | {"odd": 1}]}, "defer", id="host-member"),
        pytest.param("deliver", {"mx": [HOST], "odd": 1}, "deliver mx1.rcpt.example", id="member"),
        pytest.param("deliver", {"mx": [HOST], "txt": "odd"}, "defer", id="txt"),
        pytest.param("deliver", {"mx": [HOST], "https": "odd"}, "defer", id="https"),
        pytest.param("deliver", {"mx": "odd"}, "defer", id="mx-outcome"),
        pytest.param("deliver", {"mx": [HOST]}, "deliver mx1.rcpt.example odd", id="session"),
        pytest.param("deliver", {"mx": [HOST]}, "deliver mx1.rcpt.example; odd", id="report"),
        pytest.param("deliver", {"mx": [HOST]}, "odd", id="outcome"),
        pytest.param("deliver", {"mx": [{}]}, "defer", id="host-without-name"),
        pytest.param("deliver", {"cache": {"mode": "odd"}, "mx": [HOST]}, "defer", id="cache"),
        pytest.param("fetch", {"status": 404, "odd": 1}, "fail", id="fetch-member"),
        pytest.param("fetch", {"status": 200, "ct": "text/plain", "body": "odd"}, "ok", id="body"),
        pytest.param(
            "dane-act", {"mx": "odd", "addr": "secure", "tlsa": None}, "delay", id="state"
        ),
        pytest.param("dane-agility", [["3 1 1", "odd"]], False, id="agility"),
        pytest.param("cert-match", {"ctx": "odd", "ref": ["a"], "san": []}, False, id="context"),
        pytest.param("mx-match", {"p": ["a"], "mx": "b", "odd": 1}, False, id="match-member"),
        pytest.param("mx-match", ["a", "b"], False, id="no-object"),
        pytest.param("sts-policy", {"b64": "%%"}, None, id="base64"),
        pytest.param("sts-policy", 7, None, id="no-text"),
        pytest.param("sts-txt", 7, None, id="no-rrset"),
    ],
)
def test_what_the_runner_does_not_understand_fails(vector_class: str, given: Any, out: Any) -> None:
    verdict = run_vector(Vector("T", vector_class, "R", given, (out,)))
    assert not verdict.passed
    assert verdict.got.startswith("cannot be run: ")


def _deliver(given: Any, out: str) -> bool:
    return run_vector(Vector("T", "deliver", "R", given, (out,))).passed


@pytest.mark.parametrize(
    ("out", "passed"),
    [
        ("deliver mx1.rcpt.example tls-verified", True),
        ("deliver mx1.rcpt.example tls-pkix", True),
        ("deliver mx1.rcpt.example", True),
        ("deliver mx1.rcpt.example; no report of sts failure", True),
        ("deliver mx1.rcpt.example tls-dane", False),
        ("deliver mx1.rcpt.example clear", False),
        ("deliver mx2.rcpt.example", False),
        ("deliver", False),
        ("deliver mx1.rcpt.example; report failure", False),
        ("defer", False),
        ("bounce", False),
    ],
)
def test_a_delivery_is_compared_word_by_word(out: str, passed: bool) -> None:
    cache = {"mode": "enforce", "age": 0, "max_age": 9, "mx": ["*.rcpt.example"]}
    assert _deliver({"cache": cache, "mx": [HOST]}, out) is passed


def test_an_mx_entry_that_matches_nothing_equals_its_absence() -> None:
    body = "version: STSv1\nmode: enforce\nmx: *\nmx: a.example\nmax_age: 1\n"
    kept = {"mode": "enforce", "max_age": 1, "mx": ["*", "A.example"]}
    assert run_vector(Vector("T", "sts-policy", "R", body, (kept,))).passed
    other = {"mode": "enforce", "max_age": 1, "mx": ["b.example"]}
    assert not run_vector(Vector("T", "sts-policy", "R", body, (other,))).passed
    assert not run_vector(Vector("T", "sts-policy", "R", body, (None,))).passed
