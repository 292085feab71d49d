# SPDX-License-Identifier: Apache-2.0
"""The catalogue in `spec/` is a contract: each promise in it is cited, tested, and says no more."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from scripts import spec_status
from tests.docs.rfcsections import cited, sections

if TYPE_CHECKING:
    from scripts.spec_status import Evidence, Requirement

ROOT = Path(__file__).resolve().parents[2]
ROWS = spec_status.requirements()
LEVELS = {
    f"{word}{derived}"
    for word in ("MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "MAY", "BCP")
    for derived in ("", "(d)")
}
TEXTS = sorted(
    path
    for path in (
        *ROOT.glob("src/**/*.py"),
        *ROOT.glob("tests/**/*.py"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("man/*"),
        *ROOT.glob("spec/*.toml"),
        ROOT / "README.md",
    )
    if path.name != "test_spec.py"
)


def evidence(row: Requirement) -> Evidence:
    return spec_status.evidence().get(row.requirement_id, spec_status.Evidence())


def select(*, status: str, must: bool) -> list[object]:
    return [
        pytest.param(row, id=row.requirement_id)
        for row in ROWS.values()
        if row.status == status and row.is_must is must
    ]


def test_the_catalogue_is_whole() -> None:
    counts = dict.fromkeys(spec_status.TITLES, 0)
    for row in ROWS.values():
        counts[row.group] += 1
    assert counts == {
        "dane": 79,
        "security": 42,
        "sts-application": 66,
        "sts-fetch": 49,
        "sts-policy": 42,
        "sts-record": 36,
        "tlsrpt-record": 32,
        "tlsrpt-report": 58,
        "tlsrpt-delivery": 45,
        "tlsrpt-receiving": 28,
        "owner": 35,
        "requiretls": 33,
    }


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_row_says_what_a_row_has_to_say(row: Requirement) -> None:
    assert row.level in LEVELS
    assert row.status in spec_status.STATUSES
    assert row.text.endswith(".")
    assert row.requirement_id.rpartition("-")[0] in spec_status.FAMILIES
    if row.status == "declined":
        # What an RFC commands is not for us to leave out.
        assert not row.is_must
        assert row.reason


@pytest.mark.parametrize("requirement_id", sorted(spec_status.evidence()))
def test_whatever_is_named_exists(requirement_id: str) -> None:
    found = spec_status.evidence()[requirement_id]
    if requirement_id in ROWS:
        return
    # The shared vectors name requirements on roles that this catalogue does not have yet.
    assert requirement_id.rpartition("-")[0] in spec_status.OTHER_FAMILIES
    assert found.vectors
    assert (found.tests, found.places, found.lab_places, found.zoo) == (set(), set(), set(), [])


@pytest.mark.parametrize("row", select(status="implemented", must=True))
def test_what_must_be_done_is_cited_and_tested(row: Requirement) -> None:
    found = evidence(row)
    assert found.is_tested, "no test, vector or zoo entry has this id"
    if row.reason_no_citation:
        assert not found.places, "there is a citation: remove reason_no_citation"
    else:
        assert found.places, "no comment or docstring of src/ has this id"


@pytest.mark.parametrize("row", select(status="implemented", must=False))
def test_what_is_done_beyond_that_is_cited_and_tested_too(row: Requirement) -> None:
    found = evidence(row)
    assert found.is_tested, "no test, vector or zoo entry has this id"
    assert found.places or row.reason_no_citation, "no comment or docstring of src/ has this id"


@pytest.mark.parametrize("row", select(status="delegated", must=True))
def test_what_the_mta_must_do_is_shown_with_the_mta(row: Requirement) -> None:
    assert evidence(row).is_shown_end_to_end, "no zoo entry or test in tests/e2e has this id"


@pytest.mark.parametrize("row", select(status="delegated", must=False))
def test_what_the_mta_does_beyond_that_is_shown_or_explained(row: Requirement) -> None:
    assert evidence(row).is_shown_end_to_end or row.reason


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_cited_section_exists(path: Path) -> None:
    unknown = {
        f"RFC {rfc} §{section}"
        for rfc, section in cited(path.read_text("utf-8"))
        if section not in sections(rfc)
    }
    assert not unknown, "a wrong section, or one missing in tests/docs/rfcsections.py"


def test_sections_are_read_as_they_are_written() -> None:
    assert sections(8461) >= {"3", "3.1", "3.2", "3.4", "10.5", "B"}
    assert "3.5" not in sections(8461)
    assert "4.13" in sections(8914)
    assert cited("RFC 8461 §3.1, §3.3; RFC 7672 §2.2.1: x (RFC 5321 §5.1).") == [
        (8461, "3.1"),
        (8461, "3.3"),
        (7672, "2.2.1"),
        (5321, "5.1"),
    ]
    assert cited("7672 §2.2.2–2.2.3") == [(7672, "2.2.2"), (7672, "2.2.3")]
    assert cited("8461 App. B; 8460 §4.3.4") == [(8461, "B"), (8460, "4.3.4")]


def test_the_reader_of_marks() -> None:
    source = """
CASES = {"a": ("DANE-01", "DANE-02")}
pytestmark = pytest.mark.req("SEC-01")

@pytest.mark.req("STS-REC-01", "STS-REC-02")
@pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.req("STS-REC-03"))])
def test_one(x): ...

def case(x, *req):
    return pytest.param(x, marks=pytest.mark.req(*req))

BY_CALL = [case(1, "DANE-04"), case("DANE-05x", "DANE-06")]

class TestTwo:
    @pytest.mark.req(*CASES.get("a", ("DANE-03",)))
    def test_two(self): ...
"""
    assert {(m.requirement_id, m.test) for m in spec_status.marks_in(source, "t.py")} == {
        ("SEC-01", "t.py"),
        ("STS-REC-01", "t.py::test_one"),
        ("STS-REC-02", "t.py::test_one"),
        ("STS-REC-03", "t.py::test_one"),
        ("DANE-01", "t.py::test_two"),
        ("DANE-02", "t.py::test_two"),
        ("DANE-03", "t.py::test_two"),
        ("DANE-04", "t.py"),
        ("DANE-06", "t.py"),
    }
    with pytest.raises(ValueError, match=r"t\.py:1: "):
        list(spec_status.marks_in("pytest.mark.req(x)", "t.py"))
    with pytest.raises(ValueError, match=r"t\.py:1: "):
        list(spec_status.marks_in("pytest.mark.req(*x)", "t.py"))


def test_the_reader_of_ids() -> None:
    assert list(spec_status.ids_in("(STS-APP-55, -59, DANE-37)")) == [
        "STS-APP-55",
        "STS-APP-59",
        "DANE-37",
    ]
    assert not list(spec_status.ids_in("UTF-8, SHA-256, EID-6253, C-13, X-sts-policy-01"))


def test_the_reader_of_comments() -> None:
    source = '"""Module\n\nSpec."""\nx = 1  # one\n# two\n# three\ny = "# no comment"\n'
    assert list(spec_status.remarks(source)) == [(4, "one two three"), (1, "Module Spec.")]
