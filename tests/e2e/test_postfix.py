# SPDX-License-Identifier: Apache-2.0
"""Every zoo domain through the Postfix of Debian 12 and of Debian 13, each in its dialect."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pytest

from .matrix import Matrix, cases, check, open_matrix

if TYPE_CHECKING:
    from collections.abc import Iterator

    from strictmail.lab.zoo import ZooEntry

pytestmark = pytest.mark.e2e


@dataclass(frozen=True, slots=True)
class Release:
    """A Postfix that must work with strictmail.

    Attributes:
        version: How its version number begins.
        root: The Debian root it is in.
        dialect: What it is answered in.
        extra: Lines of main.cf that only it knows.
    """

    version: str
    root: str
    dialect: str
    extra: dict[str, str] = field(default_factory=dict)


RELEASES: Final = (
    Release("3.7.", "bookworm", "postfix"),
    Release("3.10.", "trixie", "postfix-tlsrpt", {"smtp_tlsrpt_enable": "yes"}),
)


@pytest.fixture(scope="module", params=RELEASES, ids=lambda release: f"postfix-{release.version}x")
def matrix(request: pytest.FixtureRequest) -> Iterator[Matrix]:
    release: Release = request.param
    with open_matrix(release.root, release.dialect, release.extra) as sent:
        assert sent.postfix.version.startswith(release.version)
        yield sent


@pytest.mark.parametrize("entry", cases())
def test_mail_to(matrix: Matrix, entry: ZooEntry) -> None:
    check(matrix, entry)
