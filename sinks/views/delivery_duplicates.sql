-- How often the providers send the same thing again, and for how long they do.
CREATE OR REPLACE VIEW ${database}.delivery_duplicates
(
    day Date COMMENT 'Day of receipt, UTC.',
    tenant LowCardinality(String) COMMENT 'Owner of the source.',
    source LowCardinality(String) COMMENT 'Name of the source.',
    deliveries UInt64 COMMENT 'Deliveries received.',
    new UInt64 COMMENT 'Of these, deliveries that made an event.',
    duplicates UInt64 COMMENT 'Of these, repeats of a known event.',
    quarantined UInt64 COMMENT 'Of these, deliveries that went to the dead letters.',
    duplicate_rate Float64 COMMENT 'duplicates / deliveries.',
    repeated_events UInt64 COMMENT 'Events first delivered that day and source, and delivered again since.',
    span_p50_seconds Nullable(Float64) COMMENT 'Of repeated_events: first to last delivery, median; null when there are none.',
    span_p90_seconds Nullable(Float64) COMMENT 'The same, 90 % took no longer.',
    span_p95_seconds Nullable(Float64) COMMENT 'The same, 95 % took no longer.',
    span_p99_seconds Nullable(Float64) COMMENT 'The same, 99 % took no longer.',
    span_max_seconds Nullable(Float64) COMMENT 'The same, the longest.'
)
AS SELECT
    counted.day AS day,
    counted.tenant AS tenant,
    counted.source AS source,
    deliveries, new, duplicates, quarantined,
    duplicates / deliveries AS duplicate_rate,
    ifNull(spans.events, 0) AS repeated_events,
    spans.p50 AS span_p50_seconds,
    spans.p90 AS span_p90_seconds,
    spans.p95 AS span_p95_seconds,
    spans.p99 AS span_p99_seconds,
    spans.longest AS span_max_seconds
FROM (
    SELECT
        toDate(received_at, 'UTC') AS day, series, any(tenant) AS tenant, any(source) AS source,
        count() AS deliveries,
        countIf(verdict = 'new') AS new,
        countIf(verdict = 'duplicate') AS duplicates,
        countIf(verdict = 'quarantined') AS quarantined
    FROM ${database}.deliveries_by_time FINAL
    GROUP BY day, series
) AS counted
LEFT JOIN (
    SELECT
        day, series,
        toNullable(count()) AS events,
        quantilesExactInclusive(0.5, 0.9, 0.95, 0.99)(seconds) AS quantiles,
        toNullable(round(quantiles[1], 6)) AS p50,
        toNullable(round(quantiles[2], 6)) AS p90,
        toNullable(round(quantiles[3], 6)) AS p95,
        toNullable(round(quantiles[4], 6)) AS p99,
        toNullable(max(seconds)) AS longest
    FROM (
        SELECT
            -- Of two at the same microsecond, one of them, always the same.
            argMin(deliveries.series, bitShiftLeft(toUInt128(toUnixTimestamp64Micro(received_at)), 64) + delivery) AS series,
            toDate(min(received_at), 'UTC') AS day,
            dateDiff('microsecond', min(received_at), max(received_at)) / 1e6 AS seconds
        FROM ${database}.deliveries_by_time AS deliveries FINAL
        -- Few events are delivered again: only theirs are grouped.
        WHERE event != 0 AND event IN (SELECT event FROM ${database}.deliveries_by_time WHERE verdict = 'duplicate')
        GROUP BY event
        HAVING count() > 1
    )
    GROUP BY day, series
) AS spans ON spans.day = counted.day AND spans.series = counted.series
COMMENT 'Repeated deliveries: how many, and over how long.';
