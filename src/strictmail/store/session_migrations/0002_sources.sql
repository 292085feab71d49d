-- SPDX-License-Identifier: Apache-2.0
-- Who told of the sessions of a domain's day; plain datagrams have no row.

CREATE TABLE source_count (
    day_domain_id    INTEGER NOT NULL REFERENCES day_domain (id) ON DELETE CASCADE,
    source           TEXT NOT NULL,
    session_count    INTEGER NOT NULL,
    unverified_count INTEGER NOT NULL,
    PRIMARY KEY (day_domain_id, source)
) STRICT, WITHOUT ROWID;
