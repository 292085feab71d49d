-- SPDX-License-Identifier: Apache-2.0
-- Sessions that came when the report of their day and domain had been made: no report tells of them.

ALTER TABLE day_domain ADD COLUMN late_count INTEGER NOT NULL DEFAULT 0;
CREATE INDEX day_domain_closed ON day_domain (day) WHERE state = 1;
CREATE INDEX day_domain_late ON day_domain (day) WHERE late_count > 0;
