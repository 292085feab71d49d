-- SPDX-License-Identifier: Apache-2.0
-- Cached policies, overrides, and what other processes ask of the daemon.
-- Instants are whole seconds since 1970 (UTC).

PRAGMA application_id = 0x53744d61;

CREATE TABLE schema_version (
    version    INTEGER NOT NULL PRIMARY KEY,
    written_by TEXT NOT NULL
) STRICT;

-- Policies as served. Hosted domains share theirs with thousands of others, so each text is kept
-- once. `digest` only finds candidates: equality is decided by the whole content.
CREATE TABLE body (
    id              INTEGER NOT NULL PRIMARY KEY,
    digest          INTEGER NOT NULL,
    reference_count INTEGER NOT NULL DEFAULT 0,
    content         BLOB NOT NULL
) STRICT;
CREATE INDEX body_digest ON body (digest);

-- `mode` and `expires_at` are for queries only: the policy in force is what the body says.
-- mode: 0 none, 1 testing, 2 enforce. registrable_domain: NULL where it is the domain itself.
CREATE TABLE policy (
    id                 INTEGER NOT NULL PRIMARY KEY,
    domain             TEXT NOT NULL UNIQUE,
    policy_id          TEXT NOT NULL,
    mode               INTEGER NOT NULL CHECK (mode IN (0, 1, 2)),
    fetched_at         INTEGER NOT NULL,
    expires_at         INTEGER NOT NULL,
    refresh_at         INTEGER,
    txt_check_at       INTEGER NOT NULL,
    last_asked_at      INTEGER NOT NULL,
    failing_since      INTEGER,
    failure_count      INTEGER NOT NULL,
    failure_type       TEXT,
    failure_reason     TEXT,
    failure_code       TEXT,
    failure_lines      TEXT,
    registrable_domain TEXT,
    body_id            INTEGER NOT NULL REFERENCES body (id)
) STRICT;
CREATE INDEX policy_refresh ON policy (refresh_at) WHERE refresh_at IS NOT NULL;
CREATE INDEX policy_failing ON policy (failing_since) WHERE failing_since IS NOT NULL;
CREATE INDEX policy_registrable ON policy (registrable_domain) WHERE registrable_domain IS NOT NULL;

-- How many policies there are of each mode, kept by the triggers below: counting a million rows
-- for every scrape of the metrics would be slow.
CREATE TABLE tally (
    mode         INTEGER NOT NULL PRIMARY KEY,
    policy_count INTEGER NOT NULL
) STRICT;
INSERT INTO tally VALUES (0, 0), (1, 0), (2, 0);

CREATE TRIGGER policy_inserted AFTER INSERT ON policy BEGIN
    UPDATE tally SET policy_count = policy_count + 1 WHERE mode = NEW.mode;
    UPDATE body SET reference_count = reference_count + 1 WHERE id = NEW.body_id;
END;
CREATE TRIGGER policy_deleted AFTER DELETE ON policy BEGIN
    UPDATE tally SET policy_count = policy_count - 1 WHERE mode = OLD.mode;
    UPDATE body SET reference_count = reference_count - 1 WHERE id = OLD.body_id;
    DELETE FROM body WHERE id = OLD.body_id AND reference_count <= 0;
END;
CREATE TRIGGER policy_mode_changed AFTER UPDATE OF mode ON policy WHEN OLD.mode <> NEW.mode BEGIN
    UPDATE tally SET policy_count = policy_count - 1 WHERE mode = OLD.mode;
    UPDATE tally SET policy_count = policy_count + 1 WHERE mode = NEW.mode;
END;
CREATE TRIGGER policy_body_changed AFTER UPDATE OF body_id ON policy
WHEN OLD.body_id <> NEW.body_id BEGIN
    UPDATE body SET reference_count = reference_count + 1 WHERE id = NEW.body_id;
    UPDATE body SET reference_count = reference_count - 1 WHERE id = OLD.body_id;
    DELETE FROM body WHERE id = OLD.body_id AND reference_count <= 0;
END;

-- mx_patterns: a JSON array of strings.
CREATE TABLE override (
    nexthop     TEXT NOT NULL PRIMARY KEY,
    action      TEXT NOT NULL CHECK (action IN ('default', 'encrypt', 'secure', 'dane-only', 'defer')),
    mx_patterns TEXT NOT NULL,
    reason      TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What another process wants from the daemon. Numbers are never used twice: a command waits for
-- the outcome of its own request. domain '': every domain.
CREATE TABLE request (
    id        INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    kind      TEXT NOT NULL CHECK (kind IN ('refresh', 'forget')),
    domain    TEXT NOT NULL,
    taken     INTEGER NOT NULL DEFAULT 0 CHECK (taken IN (0, 1)),
    succeeded INTEGER CHECK (succeeded IN (0, 1)),
    outcome   TEXT
) STRICT;
CREATE INDEX request_waiting ON request (id) WHERE taken = 0;
