# SPDX-License-Identifier: Apache-2.0
"""What doctor says of session counts: the kernel's queue, rights, Postfix's settings, testing."""

from __future__ import annotations

import stat
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from strictmail.runtime.config import check_config
from strictmail.runtime.postconf import PostfixFacts
from strictmail.runtime.tlsrptconf import CollectorFacts, SocketFacts, judge_collectors

if TYPE_CHECKING:
    from strictmail.runtime.config import Config

SOCKET = "/var/spool/postfix/strictmail/tlsrpt"
LISTENER = '[[listener]]\nname = "p"\nsocket = "inet:127.0.0.1:8461"\ndialect = "postfix-tlsrpt"\n'
ANNOTATED = '[decision]\ntesting = "annotate"\n'
GOOD_SOCKET = SocketFacts(
    SOCKET, stat.S_IFSOCK | 0o660, gid=7, uid=1, postfix_gids=frozenset({7}), postfix_uid=9
)
PROBING = "[reporter]\nprobe_testing = true\n"
CONTACT = 'organization = "Sender"\ncontact = "tls@sender.example"\nmail = "off"\n'
GOOD = CollectorFacts(512, [GOOD_SOCKET])
SETTINGS = {
    "mail_version": "3.10.13",
    "queue_directory": "/var/spool/postfix",
    "smtp_tls_loglevel": "summary, untrusted",
    "smtp_tlsrpt_enable": "yes",
    "smtp_tlsrpt_skip_reused_handshakes": "no",
    "smtp_tlsrpt_socket_name": "strictmail/tlsrpt",
}
CHROOTED = ("smtp unix - - y - - smtp",)


def configured(text: str = "[[collector]]\n") -> Config:
    config, problems = check_config(ANNOTATED + LISTENER + text)
    assert config is not None, problems
    return config


def postfix(
    changes: dict[str, str] | None = None, services: tuple[str, ...] = CHROOTED
) -> PostfixFacts:
    return PostfixFacts(SETTINGS | (changes or {}), services=services)


def findings(
    facts: CollectorFacts = GOOD,
    config: Config | None = None,
    found: PostfixFacts | None = None,
) -> dict[str, tuple[str, str]]:
    judged = judge_collectors(facts, config or configured(), found or postfix())
    return {one.id: (str(one.health), "\n".join((one.sentence, *one.fix))) for one in judged}


def test_all_is_well() -> None:
    assert {health for health, _ in findings().values()} == {"ok"}
    assert set(findings()) == {
        "dgram-queue",
        "tlsrpt-socket:tlsrpt",
        "postfix-tlsrpt-socket",
        "testing-data",
    }


@pytest.mark.parametrize(
    ("length", "health"), [(10, "warn"), (127, "warn"), (128, "ok"), (None, "unknown")]
)
def test_the_queue_of_the_kernel(length: int | None, health: str) -> None:
    found = findings(replace(GOOD, queue_length=length))["dgram-queue"]
    assert found[0] == health
    assert ("sysctl -w" in found[1]) == (health == "warn")


@pytest.mark.parametrize(
    ("facts", "health", "words"),
    [
        (SocketFacts(""), "unknown", "only systemd knows"),
        (SocketFacts(SOCKET), "fail", "there is no socket"),
        (replace(GOOD_SOCKET, mode=stat.S_IFREG | 0o660), "fail", "no socket"),
        (replace(GOOD_SOCKET, postfix_gids=None), "unknown", "no user postfix"),
        (replace(GOOD_SOCKET, gid=8), "fail", "may not write"),
        (replace(GOOD_SOCKET, mode=stat.S_IFSOCK | 0o640), "fail", "may not write"),
        (replace(GOOD_SOCKET, mode=stat.S_IFSOCK | 0o666), "warn", "everybody"),
        (replace(GOOD_SOCKET, gid=8, mode=stat.S_IFSOCK | 0o666), "warn", "everybody"),
        (replace(GOOD_SOCKET, uid=9, gid=8, mode=stat.S_IFSOCK | 0o600), "ok", "may write"),
    ],
)
def test_who_may_write(facts: SocketFacts, health: str, words: str) -> None:
    found = findings(replace(GOOD, sockets=[facts]))["tlsrpt-socket:tlsrpt"]
    assert found[0] == health
    assert words in found[1]


@pytest.mark.parametrize(
    ("settings", "name", "health", "words"),
    [
        ({"smtp_tlsrpt_enable": "no"}, "postfix-tlsrpt", "fail", "smtp_tlsrpt_enable = yes"),
        (
            {"smtp_tlsrpt_socket_name": ""},
            "postfix-tlsrpt-socket",
            "fail",
            "smtp_tlsrpt_socket_name = strictmail/tlsrpt",
        ),
        (
            {"smtp_tlsrpt_skip_reused_handshakes": "yes"},
            "postfix-tlsrpt-reused",
            "warn",
            "smtp_tlsrpt_skip_reused_handshakes = no",
        ),
        ({"smtp_tls_loglevel": "1"}, "testing-data", "warn", "summary, untrusted"),
        ({"mail_version": "3.7.11"}, "postfix-tlsrpt", "warn", "import-log"),
    ],
)
def test_what_postfix_is_told(settings: dict[str, str], name: str, health: str, words: str) -> None:
    found = findings(found=postfix(settings))[name]
    assert found[0] == health
    assert words in found[1]


def test_a_chroot_and_the_name_of_the_socket() -> None:
    absolute = postfix({"smtp_tlsrpt_socket_name": SOCKET})
    assert findings(found=absolute)["postfix-tlsrpt-socket"][0] == "fail"
    outside = postfix({"smtp_tlsrpt_socket_name": SOCKET}, ())
    assert findings(found=outside)["postfix-tlsrpt-socket"][0] == "ok"
    far = configured('[[collector]]\nsocket = "unix:/run/strictmail/tlsrpt"\n')
    name, text = findings(config=far)["postfix-tlsrpt-socket"]
    assert name == "fail"
    assert "cannot reach" in text
    assert 'socket = "unix:/var/spool/postfix/strictmail/tlsrpt"' in text


def test_testing_policies_are_told_as_none_by_default() -> None:
    config, _ = check_config(LISTENER + "[[collector]]\n")
    found = findings(config=config)["testing-data"]
    assert found[0] == "warn"
    assert 'testing = "annotate"' in found[1]
    seen = findings(replace(GOOD, unverified=17), found=postfix({"smtp_tls_loglevel": "1"}))
    assert "17 sessions" in seen["testing-data"][1]


def test_what_nobody_verifies_can_be_probed() -> None:
    probing = configured(f"[[collector]]\n{PROBING}{CONTACT}")
    unverified = replace(GOOD, unverified=17)
    for level in ("1", "summary, untrusted"):
        found = postfix({"smtp_tls_loglevel": level})
        health, text = findings(unverified, found=found)["testing-data"]
        assert health == "warn"
        assert "17 sessions" in text
        assert "[reporter] probe_testing = true" in text
        health, text = findings(unverified, probing, found)["testing-data"]
        assert health == "ok"
        assert "17 sessions" in text
    # Where the log or another MTA tells, too.
    old = postfix({"mail_version": "3.7.11"})
    health, text = findings(unverified, found=old)["testing-data"]
    assert health == "warn"
    assert "[reporter] probe_testing = true" in text
    assert "testing-data" not in findings(GOOD, found=old)
    assert "testing-data" not in findings(unverified, probing, old)
    silent, _ = check_config(LISTENER + "[[collector]]\n")
    assert "probe_testing = true" in findings(config=silent)["testing-data"][1]


@pytest.mark.parametrize(
    ("roles", "reporter", "words"),
    [
        ("", PROBING, "[reporter] contact"),
        ('roles = ["resolver", "collector"]\n', PROBING + CONTACT, '"reporter" in roles'),
    ],
)
def test_probes_need_a_reporter(roles: str, reporter: str, words: str) -> None:
    config, problems = check_config(f"{roles}{ANNOTATED}{LISTENER}[[collector]]\n{reporter}")
    assert config is not None, problems
    for facts in (GOOD, replace(GOOD, unverified=17)):
        for version in ("3.10.13", "3.7.11"):
            found = findings(facts, config, postfix({"mail_version": version}))
            health, text = found["testing-data"]
            assert health == "warn"
            assert "no reporter runs" in text
            assert words in text
            assert ("17 sessions" in text) is bool(facts.unverified)


def test_sessions_that_no_report_tells_of_are_told() -> None:
    assert "late-sessions" not in findings(replace(GOOD, late=0))
    health, text = findings(replace(GOOD, late=17))["late-sessions"]
    assert health == "warn"
    assert "17 sessions" in text


def test_without_a_collector_only_what_is_missing_is_told() -> None:
    config, _ = check_config(LISTENER)
    assert config is not None
    assert findings(CollectorFacts(10, []), config) == {}
    config, _ = check_config('roles = ["resolver", "collector"]\n' + LISTENER)
    assert set(findings(CollectorFacts(10, []), config)) == {"postfix-tlsrpt"}
    old = postfix({"mail_version": "3.7.11", "smtp_tls_loglevel": "0"})
    assert findings(CollectorFacts(10, []), config, old)["postfix-tls-log"][0] == "warn"


def test_a_listener_in_the_old_dialect() -> None:
    config, _ = check_config(
        ANNOTATED + LISTENER.replace("postfix-tlsrpt", "postfix") + "[[collector]]\n"
    )
    assert findings(config=config)["postfix-tlsrpt-dialect"][0] == "warn"
