-- From the webhook to the row: how old a delivery is when it can be queried. A delivery that is processed again (a restart, a
-- replay) counts with its newest landing. Quantiles are exact, interpolated between the two nearest values.
CREATE OR REPLACE VIEW ${database}.delivery_delay
(
    day Date COMMENT 'Day of receipt, UTC.',
    tenant LowCardinality(String) COMMENT 'Owner of the source.',
    source LowCardinality(String) COMMENT 'Name of the source.',
    deliveries UInt64 COMMENT 'Deliveries received and landed.',
    mean_seconds Float64 COMMENT 'Mean of received_at to _inserted_at.',
    p50_seconds Float64 COMMENT 'Median.',
    p90_seconds Float64 COMMENT '90 % took no longer.',
    p95_seconds Float64 COMMENT '95 % took no longer.',
    p99_seconds Float64 COMMENT '99 % took no longer.',
    max_seconds Float64 COMMENT 'The longest.'
)
AS WITH quantilesExactInclusive(0.5, 0.9, 0.95, 0.99)(microseconds) AS quantiles
SELECT
    day, tenant, source,
    count() AS deliveries,
    round(avg(microseconds) / 1e6, 6) AS mean_seconds,
    round(quantiles[1] / 1e6, 6) AS p50_seconds,
    round(quantiles[2] / 1e6, 6) AS p90_seconds,
    round(quantiles[3] / 1e6, 6) AS p95_seconds,
    round(quantiles[4] / 1e6, 6) AS p99_seconds,
    max(microseconds) / 1e6 AS max_seconds
FROM (
    SELECT toDate(received_at, 'UTC') AS day, tenant, source, dateDiff('microsecond', received_at, _inserted_at) AS microseconds
    FROM ${database}.deliveries_by_time FINAL
)
GROUP BY day, tenant, source
COMMENT 'Webhook to queryable.';
