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
AS SELECT
    day, tenant, source,
    count() AS deliveries,
    round(avg(seconds), 6) AS mean_seconds,
    round(quantileExactInclusive(0.5)(seconds), 6) AS p50_seconds,
    round(quantileExactInclusive(0.9)(seconds), 6) AS p90_seconds,
    round(quantileExactInclusive(0.95)(seconds), 6) AS p95_seconds,
    round(quantileExactInclusive(0.99)(seconds), 6) AS p99_seconds,
    max(seconds) AS max_seconds
FROM (
    SELECT
        toDate(received_at, 'UTC') AS day, tenant, source,
        dateDiff('microsecond', received_at, _inserted_at) / 1e6 AS seconds
    FROM ${database}.deliveries FINAL
)
GROUP BY day, tenant, source
COMMENT 'Webhook to queryable.';
