# SPDX-License-Identifier: Apache-2.0
"""Does Postfix fit its listener? One row for each way in which it does not."""

from __future__ import annotations

from typing import Any

import pytest

from strictmail.runtime.addresses import InetSocket
from strictmail.runtime.config import ListenerConfig, check_config
from strictmail.runtime.health import Finding, Health
from strictmail.runtime.postconf import (
    PostfixFacts,
    expected_addresses,
    judge_postfix,
    map_addresses,
    parse_overrides,
    parse_settings,
    parse_version,
    smtp_services,
)

CHROOTED = "smtp       unix  -       -       y       -       -       smtp"
FREE = "smtp       unix  -       -       n       -       -       smtp"
RELAY = "relay      unix  -       -       y       -       -       smtp -o syslog_name=relay"
SMTPD = "smtp       inet  n       -       y       -       -       smtpd"

GOOD = {
    "mail_version": "3.7.11",
    "queue_directory": "/var/spool/postfix",
    "smtp_dns_support_level": "dnssec",
    "smtp_host_lookup": "dns",
    "smtp_tls_CAfile": "/etc/ssl/certs/ca-certificates.crt",
    "smtp_tls_CApath": "",
    "smtp_tls_connection_reuse": "no",
    "smtp_tls_dane_insecure_mx_policy": "dane",
    "smtp_tls_policy_maps": "socketmap:inet:127.0.0.1:8461:strictmail",
    "smtp_tls_security_level": "dane",
    "tls_append_default_CA": "no",
}


def listener(**options: str) -> ListenerConfig:
    values = {"name": '"p"', "socket": '"inet:127.0.0.1:8461"', "dane": "true"} | options
    values.setdefault("default_level", '"dane"' if values["dane"] == "true" else '"may"')
    text = "[[listener]]\n" + "\n".join(f"{name} = {value}" for name, value in values.items())
    config, problems = check_config(text)
    assert config is not None, problems
    return config.listeners[0]


def findings(
    asked: ListenerConfig, settings: dict[str, str] | None = None, **facts: Any
) -> dict[str, Finding]:
    facts.setdefault("existing_files", frozenset({"/etc/ssl/certs/ca-certificates.crt"}))
    facts.setdefault("services", (CHROOTED, SMTPD))
    found = PostfixFacts(settings=GOOD | (settings or {}), **facts)
    return {finding.id: finding for finding in judge_postfix(found, asked)}


def test_a_postfix_that_fits() -> None:
    found = findings(listener())
    assert {finding.health for finding in found.values()} == {Health.OK}
    assert not any(finding.fix for finding in found.values())


LISTEN = {"dane": "true"}
TLSRPT = {"dialect": '"postfix-tlsrpt"'}
NO_DANE = {"dane": "false"}
UNIX = {"socket": '"unix:/var/spool/postfix/strictmail/p"'}

BAD: list[tuple[dict[str, str], dict[str, str], str, Health, str]] = [
    (TLSRPT, {}, "postfix-dialect", Health.FAIL, 'dialect = "postfix"'),
    (
        {},
        {"mail_version": "3.10.13"},
        "postfix-dialect",
        Health.WARN,
        'dialect = "postfix-tlsrpt"',
    ),
    (
        {},
        {"smtp_tls_policy_maps": ""},
        "postfix-map",
        Health.FAIL,
        "main.cf: smtp_tls_policy_maps = socketmap:inet:127.0.0.1:8461:strictmail",
    ),
    (
        {},
        {"smtp_tls_policy_maps": "hash:/etc/postfix/tls socketmap:inet:127.0.0.1:8463:x"},
        "postfix-map",
        Health.FAIL,
        "= hash:/etc/postfix/tls socketmap:inet:127.0.0.1:8463:x socketmap:inet:127.0.0.1:8461:st",
    ),
    (
        UNIX,
        {},
        "postfix-map",
        Health.FAIL,
        "socketmap:unix:strictmail/p:strictmail",
    ),
    (
        {"socket": '"unix:/run/strictmail/p"'},
        {},
        "postfix-chroot",
        Health.FAIL,
        'socket = "unix:/var/spool/postfix/strictmail/p"',
    ),
    (
        {},
        {"smtp_tls_security_level": ""},
        "postfix-level",
        Health.WARN,
        "main.cf: smtp_tls_security_level = dane",
    ),
    (
        {},
        {"smtp_tls_security_level": "verify"},
        "postfix-level",
        Health.WARN,
        'strictmail.toml, listener p: default_level = "secure"',
    ),
    ({}, {"smtp_tls_security_level": "fingerprint"}, "postfix-level", Health.UNKNOWN, ""),
    (
        {},
        {"smtp_dns_support_level": ""},
        "postfix-dnssec",
        Health.FAIL,
        "main.cf: smtp_dns_support_level = dnssec",
    ),
    (
        NO_DANE,
        {"smtp_tls_security_level": "may"},
        "postfix-dnssec",
        Health.WARN,
        "strictmail.toml, listener p: dane = true",
    ),
    (
        {},
        {"smtp_tls_dane_insecure_mx_policy": "may"},
        "postfix-insecure-mx",
        Health.FAIL,
        "main.cf: smtp_tls_dane_insecure_mx_policy = dane",
    ),
    (
        {},
        {"smtp_host_lookup": "native, dns"},
        "postfix-host-lookup",
        Health.FAIL,
        "main.cf: smtp_host_lookup = dns",
    ),
    (
        {},
        {"smtp_tls_CAfile": ""},
        "postfix-trust-store",
        Health.FAIL,
        "main.cf: smtp_tls_CAfile = /etc/ssl/certs/ca-certificates.crt",
    ),
    (
        {},
        {"smtp_tls_CAfile": "/absent"},
        "postfix-trust-store",
        Health.FAIL,
        "main.cf: smtp_tls_CAfile",
    ),
    (
        {},
        {"smtp_tls_CAfile": "", "smtp_tls_CApath": "/etc/ssl/certs"},
        "postfix-trust-store",
        Health.WARN,
        "main.cf: smtp_tls_CAfile",
    ),
    (
        TLSRPT,
        {"mail_version": "3.10.13", "smtp_tls_connection_reuse": "yes"},
        "postfix-connection-reuse",
        Health.WARN,
        "main.cf: smtp_tls_connection_reuse = no",
    ),
    (
        TLSRPT,
        {"mail_version": "3.10.13", "smtp_tls_enforce_sts_mx_patterns": "no"},
        "postfix-mx-patterns",
        Health.WARN,
        "main.cf: smtp_tls_enforce_sts_mx_patterns = yes",
    ),
]


@pytest.mark.parametrize(("options", "settings", "name", "health", "fix"), BAD)
def test_a_postfix_that_does_not(
    options: dict[str, str], settings: dict[str, str], name: str, health: Health, fix: str
) -> None:
    found = findings(listener(**options), settings)[name]
    assert found.health is health
    assert fix in "\n".join(found.fix)
    assert bool(found.fix) == (health is not Health.UNKNOWN)


@pytest.mark.parametrize(
    ("version", "health"),
    [
        ("3.6.4", Health.FAIL),
        ("3.7.12", Health.FAIL),
        ("3.7.13", Health.OK),
        ("3.8.7", Health.FAIL),
        ("3.8.8", Health.OK),
        ("3.9.1", Health.FAIL),
        ("3.9.2", Health.OK),
        ("3.10.0", Health.OK),
        ("3.12-20260101", Health.OK),
    ],
)
def test_which_versions_need_the_insecure_mx_policy(version: str, health: Health) -> None:
    settings = {"mail_version": version, "smtp_tls_dane_insecure_mx_policy": "may"}
    assert findings(listener(), settings)["postfix-insecure-mx"].health is health


def test_an_explicit_insecure_mx_policy_weakens_a_new_version_too() -> None:
    settings = {"mail_version": "3.10.13", "smtp_tls_dane_insecure_mx_policy": "may"}
    found = findings(listener(), settings, explicit=frozenset({"smtp_tls_dane_insecure_mx_policy"}))
    assert found["postfix-insecure-mx"].health is Health.WARN


@pytest.mark.parametrize(
    ("policy_maps", "service", "socket"),
    [
        ("socketmap:inet:localhost:8461:any", CHROOTED, "inet:127.0.0.1:8461"),
        ("socketmap:inet:127.0.0.1:8461:x", CHROOTED, "inet:0.0.0.0:8461"),
        ("socketmap:inet:[::1]:8461:x", CHROOTED, "inet:[::1]:8461"),
        ("socketmap:unix:strictmail/p:x", CHROOTED, "unix:/var/spool/postfix/strictmail/p"),
        ("socketmap:unix:/strictmail/p:x", CHROOTED, "unix:/var/spool/postfix/strictmail/p"),
        ("socketmap:unix:/var/spool/postfix/s/p:x", FREE, "unix:/var/spool/postfix/s/p"),
        ("socketmap:unix:/run/s:x", FREE, "unix:/run/s"),
        ("hash:/etc/x, socketmap:inet:127.0.0.1:8461:x", CHROOTED, "inet:127.0.0.1:8461"),
    ],
)
def test_ways_to_name_a_listener(policy_maps: str, service: str, socket: str) -> None:
    found = findings(
        listener(socket=f'"{socket}"'), {"smtp_tls_policy_maps": policy_maps}, services=(service,)
    )
    assert found["postfix-map"].health is Health.OK


@pytest.mark.parametrize(
    "policy_maps",
    ["socketmap:unix:/var/spool/postfix/s/p:x", "socketmap:unix:/run/s:x", "inet:127.0.0.1:8461"],
)
def test_ways_that_a_chroot_does_not_lead_to(policy_maps: str) -> None:
    found = findings(
        listener(socket='"unix:/var/spool/postfix/s/p"'), {"smtp_tls_policy_maps": policy_maps}
    )
    assert found["postfix-map"].health is Health.FAIL


def test_what_master_cf_overrides_is_told() -> None:
    overrides = {
        ("relay/unix", "smtp_tls_security_level"): "may",
        ("relay/unix", "syslog_name"): "x",
        ("submission/inet", "smtp_tls_security_level"): "may",
    }
    found = [
        finding
        for finding in judge_postfix(
            PostfixFacts(GOOD, services=(CHROOTED, RELAY), overrides=overrides), listener()
        )
        if finding.id == "postfix-override"
    ]
    assert [finding.sentence.split(",")[0] for finding in found] == [
        "master.cf sets smtp_tls_security_level = may for relay/unix"
    ]


def test_without_a_version_nothing_is_claimed() -> None:
    found = findings(listener(), {"mail_version": ""})
    assert found["postfix-dialect"].health is Health.UNKNOWN
    assert "postfix-insecure-mx" not in found


def test_reading() -> None:
    assert parse_settings("a = b\nc =\n  d= e f = g \npostconf: warning\n") == {
        "a": "b",
        "c": "",
        "d": "e f = g",
    }
    assert parse_overrides("relay/unix/syslog_name = x\nbroken = y\n") == {
        ("relay/unix", "syslog_name"): "x"
    }
    assert parse_version("3.10.13") == (3, 10, 13)
    assert parse_version("3.12-20260101") == (3, 12, 0)
    assert parse_version("x") is None
    assert smtp_services((CHROOTED, SMTPD, RELAY, "garbage")) == {
        "smtp/unix": True,
        "relay/unix": True,
    }
    assert map_addresses("hash:/x {socketmap:unix:/s:m} socketmap:inet:[::1]:1:m") == [
        "unix:/s",
        "inet:[::1]:1",
    ]
    assert expected_addresses(listener(), "/q", chrooted=True)[0] == str(
        InetSocket("127.0.0.1", 8461)
    )
