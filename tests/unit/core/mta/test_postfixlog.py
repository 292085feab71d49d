# SPDX-License-Identifier: Apache-2.0
"""Sessions out of Postfix's log: each kind of line, what belongs together, and who may not lie."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from strictmail.core.mta import postfixlog
from strictmail.core.mta.loglines import LogLine
from strictmail.core.mta.postfixlog import LoggedSession, PostfixLog

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MX, MX2 = "mx.example.com[192.0.2.1]", "mx2.example.com[192.0.2.2]"
CIPHER = "TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits)"


def line(text: str, pid: int = 1, second: int = 0, service: str = "postfix/smtp") -> LogLine:
    when = START + timedelta(seconds=second)
    return LogLine(when, when.strftime("%b %d %H:%M:%S"), "out", service, pid, text)


def established(peer: str = MX, word: str = "Verified", how: str = "established") -> str:
    return f"{word} TLS connection {how} to {peer}:25: {CIPHER}"


def delivered(
    peer: str = MX, status: str = "sent", why: str = "250 2.0.0 Ok", to: str = "a@example.com"
) -> str:
    relay = f"{peer}:25" if peer else "none"
    dsn = {"sent": "2.0.0", "bounced": "5.1.1"}.get(status, "4.7.5")
    return (
        f"4XyZ12abcd: to=<{to}>, relay={relay}, delay=0.2, delays=0.01/0.04/0.15/0, dsn={dsn}, "
        f"status={status} ({why})"
    )


def sessions(*texts: str, log: PostfixLog | None = None) -> list[LoggedSession]:
    log = log or PostfixLog()
    found = [one for text in texts for one in log.feed(line(text))]
    return [*found, *log.settle()]


def outcomes(*texts: str) -> list[tuple[str, str, str]]:
    return [(one.outcome.value, one.mx_host, one.fault) for one in sessions(*texts)]


NO_POLICY_MX = (
    "warning: socketmap:inet:127.0.0.1:8461:s socketmap server temporary error: enforce-no-mx: x.",
    "warning: TLS policy lookup for example.com/mx.example.com: client TLS configuration problem",
)
NO_LOOKUP = (
    "warning: TLS policy lookup for example.com/mx.example.com: "
    "TLSA lookup error for mx.example.com:25"
)
TOLD = f"TLSRPT: status=failure, domain=example.com, receiving_mx={MX2}, failure_type=expired"
NOT_TOLD = (
    "warning: Could not report TLS handshake result to tlsrpt library: "
    "Resource temporarily unavailable (errno 11)"
)
NOT_VERIFIED = "Server certificate not verified"
NOT_OFFERED = f"TLS is required, but was not offered by host {MX}"
REFUSED = f"TLS is required, but host {MX} refused to start TLS: 454 4.7.0 not now"


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        pytest.param(
            [established(), delivered()], [("verified", "mx.example.com", "")], id="verified"
        ),
        pytest.param(
            [established(word="Trusted"), delivered()],
            [("trusted", "mx.example.com", "")],
            id="trusted",
        ),
        pytest.param(
            [established(word="Anonymous"), delivered()],
            [("anonymous", "mx.example.com", "")],
            id="anonymous",
        ),
        pytest.param(
            [
                f"certificate verification failed for {MX}:25: self-signed certificate",
                established(word="Untrusted"),
                delivered(status="deferred", why=NOT_VERIFIED),
            ],
            [("certificate", "mx.example.com", "self-signed certificate")],
            id="self-signed",
        ),
        pytest.param(
            [
                f"certificate verification failed for {MX}:25: untrusted issuer /CN=evil <x>",
                established(word="Untrusted"),
                delivered(status="deferred", why=NOT_VERIFIED),
            ],
            [("certificate", "mx.example.com", "untrusted issuer")],
            id="the issuer's name is foreign",
        ),
        pytest.param(
            [
                f"server certificate verification failed for {MX}:25: num=62:hostname mismatch",
                established(word="Untrusted"),
                delivered(status="deferred", why=NOT_VERIFIED),
            ],
            [("certificate", "mx.example.com", "hostname mismatch")],
            id="name",
        ),
        pytest.param(
            [established(word="Trusted"), delivered(status="deferred", why=NOT_VERIFIED)],
            [("certificate", "mx.example.com", "")],
            id="refused without a word",
        ),
        pytest.param(
            [delivered(status="deferred", why=NOT_OFFERED)],
            [("no-starttls", "mx.example.com", "")],
            id="not offered",
        ),
        pytest.param(
            [delivered(status="deferred", why=REFUSED)],
            [("no-starttls", "mx.example.com", "")],
            id="refused to start",
        ),
        pytest.param(
            [
                f"SSL_connect error to {MX}:25: -1",
                "warning: TLS library problem: error:0A00010B:SSL routines::wrong version",
                delivered(status="deferred", why="Cannot start TLS: handshake failure"),
            ],
            [("handshake", "mx.example.com", "")],
            id="handshake",
        ),
        pytest.param(
            [
                f"SSL_connect error to {MX}:25: -1",
                "4XyZ12abcd: Cannot start TLS: handshake failure",
                delivered(),
            ],
            [("handshake", "mx.example.com", "")],
            id="then in clear text: one session's story",
        ),
        pytest.param(
            [
                established(word="Untrusted"),
                f"4XyZ12abcd: {NOT_VERIFIED}",
                established(MX2),
                delivered(MX2),
            ],
            [("certificate", "mx.example.com", ""), ("verified", "mx2.example.com", "")],
            id="the second host",
        ),
        pytest.param(
            [f"4XyZ12abcd: {NOT_OFFERED}", established(MX2), delivered(MX2)],
            [("no-starttls", "mx.example.com", ""), ("verified", "mx2.example.com", "")],
            id="the second host, the first without STARTTLS",
        ),
        pytest.param(
            [established(), delivered(status="deferred", why=f"host {MX} said: 450 later")],
            [("verified", "mx.example.com", "")],
            id="TLS was in order, the message was not taken",
        ),
        pytest.param(
            [established(), delivered(), delivered(to="b@example.com")],
            [("verified", "mx.example.com", "")],
            id="several recipients, one session",
        ),
        pytest.param(
            [
                "warning: MX name 'mx.example.com' does not match STS MX pattern for 'example.com'",
                established(MX2),
                delivered(MX2),
            ],
            [("off-policy", "mx.example.com", ""), ("verified", "mx2.example.com", "")],
            id="a host that Postfix skips",
        ),
        pytest.param(
            [
                *NO_POLICY_MX,
                delivered("", "deferred", "client TLS configuration problem"),
            ],
            [("off-policy", "mx.example.com", "")],
            id="no host of the policy's",
        ),
        pytest.param(
            [
                NO_POLICY_MX[1],
                delivered("", "deferred", "client TLS configuration problem"),
            ],
            [],
            id="the sender's own fault",
        ),
        pytest.param(
            [
                NO_LOOKUP,
                delivered("", "deferred", "TLSA lookup error for mx.example.com:25"),
            ],
            [("tlsa-lookup", "mx.example.com", "")],
            id="TLSA look-up",
        ),
        pytest.param(
            [
                "warning: TLS policy lookup for example.com/mx.example.com: no TLSA records found",
                established(MX2),
                delivered(MX2),
            ],
            [("no-tlsa", "mx.example.com", ""), ("verified", "mx2.example.com", "")],
            id="no TLSA",
        ),
        pytest.param(
            [established(how="reused"), delivered()], [], id="a connection that is reused"
        ),
        pytest.param(
            [f"Verified TLS connection established to {MX}:587: {CIPHER}", delivered()],
            [],
            id="no MX host's port",
        ),
        pytest.param(
            [established(), delivered(), delivered(to="b@example.org")], [], id="a relay host"
        ),
        pytest.param([established(), delivered(to="root")], [], id="no domain"),
        pytest.param([established(), delivered(to="a@[192.0.2.9]")], [], id="an address literal"),
        pytest.param([established()], [], id="no result yet"),
        pytest.param([delivered()], [], id="clear text, of a Postfix that logs no TLS"),
        pytest.param(
            [
                established(),
                "TLSRPT: status=success, domain=example.com, receiving_mx=" + MX,
                delivered(),
            ],
            [],
            id="told by datagram",
        ),
        pytest.param(
            [
                established(),
                "TLSRPT: status=success, domain=example.com, receiving_mx=" + MX,
                NOT_TOLD,
                delivered(),
            ],
            [("verified", "mx.example.com", "")],
            id="a datagram that was lost",
        ),
        pytest.param(
            [
                "warning: MX name 'mx.example.com' does not match STS MX pattern for 'example.com'",
                TOLD,
                established(MX2, "Untrusted"),
                delivered(MX2, "deferred", NOT_VERIFIED),
            ],
            [("off-policy", "mx.example.com", "")],
            id="one told by datagram, one not",
        ),
    ],
)
def test_an_attempt(texts: list[str], expected: list[tuple[str, str, str]]) -> None:
    assert outcomes(*texts) == expected


def test_a_session_has_time_domain_host_and_address() -> None:
    peer = "MX.Example.COM[2001:DB8::1]"
    (one,) = sessions(established(peer), delivered(peer, to="A@Example.COM"))
    assert (one.when, one.domain) == (START, "example.com")
    assert (one.mx_host, one.mx_address) == ("mx.example.com", "2001:db8::1")


def test_clear_text_is_proved_only_by_a_postfix_that_logs_tls() -> None:
    log = PostfixLog()
    sessions(established(), delivered(), log=log)
    (one,) = sessions(delivered(MX2, to="x@example.org"), log=log)
    assert (one.outcome.value, one.domain) == ("clear", "example.org")
    reused = delivered(MX2).replace(", delay=", ", conn_use=2, delay=")
    assert sessions(reused, log=log) == []


def test_processes_do_not_mix() -> None:
    log = PostfixLog()
    found: list[LoggedSession] = []
    for pid, text in [
        (1, established(word="Trusted")),
        (2, established(MX2)),
        (1, delivered(to="one@example.com")),
        (2, delivered(MX2, to="two@example.org")),
    ]:
        found += log.feed(line(text, pid))
    found += log.settle()
    assert {(one.domain, one.outcome.value) for one in found} == {
        ("example.com", "trusted"),
        ("example.org", "verified"),
    }


def test_other_services_say_nothing() -> None:
    log = PostfixLog()
    for service in ("postfix/smtpd", "postfix/lmtp", "postfix/cleanup", "dovecot/imap"):
        assert not list(log.feed(line(established(), service=service)))
        assert not list(log.feed(line(delivered(), service=service)))
    assert not list(log.settle())
    for service in ("postfix/relay/smtp", "postfix-out/smtp"):
        list(log.feed(line(established(), service=service)))
        list(log.feed(line(delivered(), service=service)))
        assert len(list(log.settle())) == 1


def test_names_are_the_same_each_time_and_differ_between_sessions() -> None:
    texts = (
        established(word="Untrusted"),
        f"4XyZ12abcd: {NOT_VERIFIED}",
        established(MX2),
        delivered(MX2),
    )
    first, again = sessions(*texts), sessions(*texts)
    assert [one.name for one in first] == [one.name for one in again]
    assert len({one.name for one in first}) == 2
    other = sessions(*(text.replace("4XyZ12abcd", "4XyZ12abce") for text in texts))
    assert not {one.name for one in first} & {one.name for one in other}


FORGED_RELAY = "evil.example[192.0.2.66]"
FORGED = f", relay={FORGED_RELAY}:25, delay=0, delays=0/0/0/0, dsn=2.0.0, status=sent (250 ok)"


@pytest.mark.parametrize(
    "text",
    [
        # An address that looks like Postfix's own words, quoted and not.
        delivered(to=f'"x>{FORGED} y"@example.com'),
        delivered(to=f"x>{FORGED} y@example.com"),
        # A reply that does.
        delivered(status="deferred", why=f"host {MX} said: 450 to=<v@victim.example>{FORGED}"),
    ],
)
def test_nobody_writes_a_result_into_a_line(text: str) -> None:
    log = PostfixLog()
    found = sessions(established(FORGED_RELAY), text, log=log)
    assert not [one for one in found if one.domain == "victim.example"]
    assert log.passed_over["ambiguous"] == 1
    assert not found


@pytest.mark.req("RPT-JSON-45")
@pytest.mark.parametrize(
    "text",
    [
        f"host {MX} said: 550 {NOT_OFFERED}",
        f"connect to {MX}:25: Connection refused",
        f"warning: {established()}",
        f"< {MX}:25: 220 {established()}",
        f"to=<{established()}>",
    ],
)
def test_what_a_server_says_is_no_session(text: str) -> None:
    assert sessions(text, delivered("", "deferred", "x")) == []


def test_a_server_cannot_fake_a_failure_in_its_reply() -> None:
    said = f"host {MX} said: 450 4.7.5 {NOT_VERIFIED} (in reply to RCPT TO command)"
    assert outcomes(established(), delivered(status="deferred", why=said)) == [
        ("verified", "mx.example.com", "")
    ]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postfixlog, "MAX_PROCESSES", 10)
    log = PostfixLog()
    for pid in range(100):
        list(log.feed(line(established(), pid)))
    assert len(log._attempts) <= 11
    assert log.passed_over["unfinished"] >= 89
    for _ in range(1000):
        list(log.feed(line(established(), 99)))
    assert len(log._attempts["out", "postfix/smtp", 99].events) <= postfixlog.MAX_EVENTS


def test_an_attempt_whose_process_was_killed_is_forgotten() -> None:
    log = PostfixLog()
    list(log.feed(line(established(), 1), 100))
    assert log.open_since() == 100
    list(log.feed(line(established(), 2, second=7200), 200))
    assert log.open_since() == 200
    assert log.passed_over["unfinished"] == 1


def test_reading_may_go_on_where_nothing_is_open() -> None:
    log = PostfixLog()
    list(log.feed(line("warning: nothing that matters", 1), 10))
    assert log.open_since() is None
    list(log.feed(line(established(), 1), 20))
    list(log.feed(line(delivered(), 1), 30))
    assert log.open_since() == 10
    list(log.settle())
    assert log.open_since() is None
