# SPDX-License-Identifier: Apache-2.0
"""What a mail server's refusal means for a report, a mailbox and a relay."""

from __future__ import annotations

import pytest

from strictmail.core.smtpreply import Reply
from strictmail.core.tlsrpt.delivery import OutcomeKind
from strictmail.core.tlsrpt.mailreplies import judge_message, judge_recipient, judge_welcome

RETRY, DEAD, GIVE_UP = OutcomeKind.RETRY, OutcomeKind.DEAD, OutcomeKind.GIVE_UP


@pytest.mark.parametrize(
    ("text", "direct", "relayed"),
    [
        ("550 5.1.1 no such user", DEAD, DEAD),
        ("550 5.1.2 no such domain", DEAD, DEAD),
        ("550 5.2.1 mailbox disabled", DEAD, DEAD),
        ("554 5.7.1 relay access denied", GIVE_UP, RETRY),
        ("550 5.7.1 your address is listed", GIVE_UP, RETRY),
        ("550 no", DEAD, RETRY),
        ("553 sorry", DEAD, RETRY),
        ("552 mailbox full", RETRY, RETRY),
        ("450 4.2.0 greylisted", RETRY, RETRY),
        ("421 4.3.2 closing", RETRY, RETRY),
    ],
)
def test_refusals_of_a_recipient(text: str, direct: OutcomeKind, relayed: OutcomeKind) -> None:
    reply = Reply(int(text[:3]), (text[4:],))
    assert judge_recipient(reply, relayed=False).kind is direct
    assert judge_recipient(reply, relayed=True).kind is relayed


@pytest.mark.parametrize(
    ("code", "kind"),
    [(250, OutcomeKind.DELIVERED), (451, RETRY), (552, GIVE_UP), (554, GIVE_UP)],
)
def test_answers_to_a_message(code: int, kind: OutcomeKind) -> None:
    assert judge_message(Reply(code, ("said",))).kind is kind


def test_who_is_not_welcome_comes_again() -> None:
    assert judge_welcome(Reply(554, ("no",)), "mx.test does not greet").kind is RETRY
