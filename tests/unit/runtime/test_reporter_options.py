# SPDX-License-Identifier: Apache-2.0
"""What `[reporter]` and `[[identity]]` may say, and what is refused with which words."""

from __future__ import annotations

import pytest

from strictmail.core.check.facts import PortState
from strictmail.net.dkim import KeyFinding, KeyState
from strictmail.runtime.config import check_config
from strictmail.runtime.health import Health
from strictmail.runtime.health_reports import ReportFacts, judge_reports

GOOD = '[reporter]\norganization = "X"\ncontact = "tls@example.com"\nsigned_by_mta = true\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD.replace('"X"', '""'), "organization is empty"),
        (GOOD.replace("signed_by_mta = true", ""), "report mail has to be signed"),
        (GOOD + 'sender = "tls@other.example"\n', "sender has to be an address at example.com"),
        (GOOD + 'contact = "tls"\n', "not valid TOML"),
        (GOOD.replace("tls@example.com", "mailto:tls@example.com"), "is no address"),
        (GOOD + 'relay_user = "x"\n', "needs a relay_password_file"),
        (
            GOOD + 'relay_user = "x"\nrelay_password_file = "/p"\nrelay_host = "smtp.example"\n',
            "would travel in the clear to smtp.example",
        ),
        (GOOD + 'dkim_keys = ["nothing"]\n', "SELECTOR=/PATH"),
        (GOOD + 'dkim_keys = ["a=/x", "a=/y"]\n', "a selector stands twice"),
        (GOOD + 'dkim_keys = ["a=/1","b=/2","c=/3","d=/4","e=/5"]\n', "more than the 4"),
        (GOOD + "dkim_keys = 3\n", "expected a list"),
        (GOOD + "copy_to = 3\n", "expected a string"),
        (GOOD + 'retention = "1d"\n', "retention"),
        ('roles = ["reporter"]\n', "reporter needs a contact"),
        (
            '[[identity]]\nname = "x"\norganization = "X"\ncontact = "a@b.example"\n',
            "[reporter] has no contact",
        ),
        (
            GOOD + '[[identity]]\nname = "x"\norganization = "X"\ncontact = "a@b.example"\n',
            "[[identity]] x: report mail has to be signed",
        ),
        (
            GOOD + '[[collector]]\nname = "c"\nidentity = "y"\n',
            "there is no [[identity]] with the name y",
        ),
    ],
)
def test_what_is_refused(text: str, words: str) -> None:
    config, problems = check_config(text)
    assert config is None
    assert any(words in str(problem) for problem in problems), problems


def test_what_is_good() -> None:
    config, problems = check_config(
        GOOD
        + 'relay_user = "x"\nrelay_password_file = "/p"\nrelay_host = "::1"\nmail = "lmtp"\n'
        + '[[identity]]\nname = "x"\norganization = "X"\ncontact = "a@b.example"\n'
        + 'dkim_keys = ["s-1=/etc/k.pem"]\n'
    )
    assert problems == []
    assert config is not None
    assert config.roles == ("resolver", "reporter")
    assert config.identities[0].dkim_keys == (("s-1", "/etc/k.pem"),)


def test_a_file_without_a_contact_reports_nothing() -> None:
    config, _ = check_config("")
    assert config is not None
    assert "reporter" not in config.roles


@pytest.mark.req("RPT-DLV-33")
@pytest.mark.parametrize(
    ("state", "health"),
    [
        (KeyState.GOOD, Health.OK),
        (KeyState.ABSENT, Health.FAIL),
        (KeyState.DIFFERENT, Health.FAIL),
        (KeyState.NOT_FOR_REPORTS, Health.WARN),
        (KeyState.REPORTS_ONLY, Health.WARN),
        (KeyState.UNKNOWN, Health.UNKNOWN),
    ],
)
def test_what_doctor_makes_of_a_key(state: KeyState, health: Health) -> None:
    key = KeyFinding(state, "s._domainkey.example.com", "v=DKIM1; p=x")
    (finding,) = judge_reports(ReportFacts(keys=(key,)))
    assert (finding.health, finding.id) == (health, "report-key:s._domainkey.example.com")
    assert finding.health in (Health.OK, Health.UNKNOWN) or finding.fix


def test_what_doctor_makes_of_the_rest() -> None:
    facts = ReportFacts(key_error="no key", ed25519_alone=True, envelope_sender=False)
    assert [finding.id for finding in judge_reports(facts)] == ["report-keys", "report-keys-rsa"]
    for error, health in ((None, Health.UNKNOWN), ("", Health.OK), ("554", Health.FAIL)):
        found = list(judge_reports(ReportFacts(has_relay=True, relay_error=error)))
        assert [finding.health for finding in found] == [health]


@pytest.mark.parametrize(
    ("port", "health"),
    [
        (PortState.OPEN, Health.OK),
        (PortState.BLOCKED, Health.WARN),
        (PortState.NOT_TESTED, Health.UNKNOWN),
        (None, Health.UNKNOWN),
    ],
)
def test_what_doctor_makes_of_port_25(port: PortState | None, health: Health) -> None:
    (finding,) = judge_reports(ReportFacts(has_probes=True, port25=port))
    assert (finding.id, finding.health) == ("report-probes", health)
    assert (health is Health.WARN) is bool(finding.fix)
    # Who does not probe need not be let out.
    assert list(judge_reports(ReportFacts(port25=port))) == []
