-- SPDX-License-Identifier: Apache-2.0
-- Sessions under a policy whose success nobody verified: in no report, until a probe has moved them
-- to the successes or to the failures.

ALTER TABLE policy_count ADD COLUMN unverified INTEGER NOT NULL DEFAULT 0;
CREATE INDEX policy_count_unverified ON policy_count (day_domain_id) WHERE unverified > 0;
