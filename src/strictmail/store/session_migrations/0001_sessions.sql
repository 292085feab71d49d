-- SPDX-License-Identifier: Apache-2.0
-- Counts of sessions, and the reports made of them with each of their deliveries.
-- Instants are whole seconds since 1970 (UTC); days are days since 1970-01-01.

PRAGMA application_id = 0x53745273;

CREATE TABLE schema_version (
    version    INTEGER NOT NULL PRIMARY KEY,
    written_by TEXT NOT NULL
) STRICT;

-- identity: the name of who reports, as configured; '' for the only one.
-- state: 0 counting, 1 reported (or nothing to report: see `outcome`).
CREATE TABLE day_domain (
    id       INTEGER NOT NULL PRIMARY KEY,
    day      INTEGER NOT NULL,
    identity TEXT NOT NULL,
    domain   TEXT NOT NULL,
    record   TEXT NOT NULL,
    state    INTEGER NOT NULL DEFAULT 0 CHECK (state IN (0, 1)),
    outcome  TEXT NOT NULL DEFAULT '',
    UNIQUE (day, identity, domain)
) STRICT;

-- Numbers and texts are apart: every batch changes numbers, and the fewer pages they stand on,
-- the less is written.
CREATE TABLE policy_count (
    id            INTEGER NOT NULL PRIMARY KEY,
    day_domain_id INTEGER NOT NULL REFERENCES day_domain (id) ON DELETE CASCADE,
    successes     INTEGER NOT NULL,
    failures      INTEGER NOT NULL
) STRICT;
CREATE INDEX policy_count_of ON policy_count (day_domain_id);

-- policy: JSON [type, domain, [strings], [patterns]].
CREATE TABLE policy_text (
    policy_count_id INTEGER NOT NULL PRIMARY KEY REFERENCES policy_count (id) ON DELETE CASCADE,
    policy          TEXT NOT NULL
) STRICT;

CREATE TABLE detail_count (
    id              INTEGER NOT NULL PRIMARY KEY,
    policy_count_id INTEGER NOT NULL REFERENCES policy_count (id) ON DELETE CASCADE,
    session_count   INTEGER NOT NULL
) STRICT;
CREATE INDEX detail_count_of ON detail_count (policy_count_id);

-- detail: JSON [result type, sending ip, mx, helo, receiving ip, information, reason].
CREATE TABLE detail_text (
    detail_count_id INTEGER NOT NULL PRIMARY KEY REFERENCES detail_count (id) ON DELETE CASCADE,
    detail          TEXT NOT NULL
) STRICT;

-- What an import has counted already: a log that is read again counts nothing twice.
CREATE TABLE imported (
    source   TEXT NOT NULL,
    digest   BLOB NOT NULL,
    day      INTEGER NOT NULL,
    PRIMARY KEY (source, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX imported_day ON imported (day);

-- A report as it was made; content is the gzip that every destination gets.
CREATE TABLE report (
    id              INTEGER NOT NULL PRIMARY KEY,
    day             INTEGER NOT NULL,
    identity        TEXT NOT NULL,
    domain          TEXT NOT NULL,
    report_id       TEXT NOT NULL,
    content         BLOB NOT NULL,
    session_count   INTEGER NOT NULL,
    dropped_details INTEGER NOT NULL,
    made_at         INTEGER NOT NULL,
    UNIQUE (day, identity, domain)
) STRICT;

-- state: waiting, sent, failed (given up), suppressed, refused (never to be tried).
-- begun: an attempt has begun and its end was not noted; nobody else tries before next_at.
-- host: of the mailbox or the URI, for limits.
CREATE TABLE delivery (
    id            INTEGER NOT NULL PRIMARY KEY,
    report_id     INTEGER NOT NULL REFERENCES report (id) ON DELETE CASCADE,
    destination   TEXT NOT NULL,
    host          TEXT NOT NULL,
    state         TEXT NOT NULL,
    begun         INTEGER NOT NULL DEFAULT 0 CHECK (begun IN (0, 1)),
    attempt_count INTEGER NOT NULL DEFAULT 0,
    next_at       INTEGER NOT NULL,
    first_at      INTEGER,
    changed_at    INTEGER NOT NULL,
    detail        TEXT NOT NULL DEFAULT '',
    message       BLOB,
    UNIQUE (report_id, destination)
) STRICT;
CREATE INDEX delivery_due ON delivery (next_at) WHERE state = 'waiting';
CREATE INDEX delivery_state ON delivery (state);

CREATE TABLE suppression (
    destination TEXT NOT NULL PRIMARY KEY,
    reason      TEXT NOT NULL,
    until       INTEGER NOT NULL,
    made_at     INTEGER NOT NULL
) STRICT;
