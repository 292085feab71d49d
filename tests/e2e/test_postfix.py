# SPDX-License-Identifier: Apache-2.0
"""Every zoo domain through the Postfix of Debian 12 and of Debian 13, each in its dialect."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pytest

from .matrix import Matrix, cases, check, find, open_matrix
from .postfix import Submission
from .world import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from strictmail.lab.zoo import ZooEntry

    from .postfix import Attempt

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
    Release(
        "3.10.",
        "trixie",
        "postfix-tlsrpt",
        # Nobody listens there: Postfix says so in its log, and delivers.
        {"smtp_tlsrpt_enable": "yes", "smtp_tlsrpt_socket_name": "private/tlsrpt"},
    ),
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


@pytest.mark.req("STS-APP-37")
@pytest.mark.parametrize("name", ["good", "pattern-wildcard", "mx-alias", "mx-first-unlisted"])
def test_sni_is_the_name_of_the_mx_host(matrix: Matrix, name: str) -> None:
    entry = find(name)
    (message,) = matrix.received[entry.domain]
    assert message.server_name == entry.expect.received_by, matrix.tell(entry)


@pytest.mark.req("DANE-73")
@pytest.mark.parametrize("name", ["dane-ee", "dane-ta", "dane-cname", "dane-cname-insecure-target"])
def test_sni_is_the_tlsa_base_domain(matrix: Matrix, name: str) -> None:
    entry = find(name)
    (host,) = entry.mx
    owner = host.tlsa_owner or f"_25._tcp.{host.base_domain}"
    (message,) = matrix.received[entry.domain]
    assert message.server_name == owner.removeprefix("_25._tcp."), matrix.tell(entry)


@pytest.mark.req("STS-APP-06")
def test_recipients_of_one_message_are_judged_by_their_domains(matrix: Matrix) -> None:
    good, bad = f"both@{find('good').domain}", f"both@{find('mx-self-signed').domain}"
    with Submission(matrix.scene.world) as submission:
        queue_id = submission.submit(good, bad)

    def tried() -> dict[str, Attempt] | None:
        found = {a.recipient: a for a in matrix.postfix.attempts() if a.queue_id == queue_id}
        return found if len(found) == 2 else None

    attempts = wait_until(tried, "both recipients", seconds=60)
    assert attempts[good].outcome == "verified", str(attempts[good])
    assert attempts[bad].outcome == "deferred", str(attempts[bad])
    assert [m.recipients for m in matrix.scene.received(good)] == [(good,)]
    assert not matrix.scene.named(bad)
