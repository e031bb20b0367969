-- When each case closed for the first and for the last time, over all its versions: whether it was opened again in between.
-- Derived from `cases`, as case_states is. Least and greatest do not change when a row is fed again. Read it with FINAL.
CREATE TABLE IF NOT EXISTS ${database}.case_closings
(
    tenant LowCardinality(String) COMMENT 'Owner of the case.',
    case_id String COMMENT 'As in cases.',
    first_closed_at SimpleAggregateFunction(min, DateTime64(6, 'UTC')) COMMENT 'The earliest closed_at of its versions.',
    last_closed_at SimpleAggregateFunction(max, DateTime64(6, 'UTC')) COMMENT 'The latest; another than first_closed_at when it was opened again and closed again.',
    updated_at SimpleAggregateFunction(max, DateTime64(6, 'UTC')) COMMENT 'Receipt of the newest event of a version that is closed; retention counts from it, as in cases.'
)
ENGINE = AggregatingMergeTree
ORDER BY (tenant, case_id)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'First and last closing of each case that ever closed. Derived from cases.';

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.case_closings_feed TO ${database}.case_closings
AS SELECT
    tenant, case_id, min(assumeNotNull(closed_at)) AS first_closed_at, max(assumeNotNull(closed_at)) AS last_closed_at,
    max(updated_at) AS updated_at
FROM ${database}.cases
WHERE closed_at IS NOT NULL
GROUP BY tenant, case_id;

INSERT INTO ${database}.case_closings (tenant, case_id, first_closed_at, last_closed_at, updated_at)
SELECT tenant, case_id, min(assumeNotNull(closed_at)), max(assumeNotNull(closed_at)), max(updated_at)
FROM ${database}.cases
WHERE closed_at IS NOT NULL
GROUP BY tenant, case_id;
