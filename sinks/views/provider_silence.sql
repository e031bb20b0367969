-- How long nothing has come from a source, beside what is usual for it: the gaps between its deliveries of the last 28 days. A
-- source that never got through is in it as soon as requests under its name were turned away. Nights and weekends are gaps, too.
-- Quantiles are exact, interpolated between the two nearest values.
CREATE OR REPLACE VIEW ${database}.provider_silence
(
    tenant LowCardinality(String) COMMENT 'Owner of the source.',
    source LowCardinality(String) COMMENT 'Name of the source.',
    last_received_at Nullable(DateTime64(6, 'UTC')) COMMENT 'Receipt of its newest delivery; null when there never was one.',
    silent_seconds Nullable(Float64) COMMENT 'Time since then.',
    turned_away_since UInt64 COMMENT 'Requests turned away since the minute of that delivery: when not 0, the provider is not silent.',
    deliveries UInt64 COMMENT 'Deliveries of the last 28 days.',
    gap_p50_seconds Nullable(Float64) COMMENT 'Time between two of these, one after the other: median; null when there are fewer than two.',
    gap_p90_seconds Nullable(Float64) COMMENT 'The same, 90 % were no longer.',
    gap_p95_seconds Nullable(Float64) COMMENT 'The same, 95 % were no longer.',
    gap_p99_seconds Nullable(Float64) COMMENT 'The same, 99 % were no longer.',
    gap_max_seconds Nullable(Float64) COMMENT 'The same, the longest.',
    is_unusual Bool COMMENT 'Whether the silence is longer than the longest of these gaps; false when there are none.'
)
AS SELECT
    named.tenant AS tenant,
    named.source AS source,
    if(empty(heard.source), NULL, heard.last) AS last_received_at,
    dateDiff('microsecond', last_received_at, now64(6, 'UTC')) / 1e6 AS silent_seconds,
    sumIf(named.count, named.minute >= toStartOfMinute(heard.last)) AS turned_away_since,
    any(heard.received) AS deliveries,
    any(heard.gaps[1]) AS gap_p50_seconds,
    any(heard.gaps[2]) AS gap_p90_seconds,
    any(heard.gaps[3]) AS gap_p95_seconds,
    any(heard.gaps[4]) AS gap_p99_seconds,
    any(heard.gaps[5]) AS gap_max_seconds,
    ifNull(silent_seconds > gap_max_seconds, false) AS is_unusual
FROM (
    SELECT tenant, source, minute, count FROM ${database}.rejections FINAL WHERE source != 'unknown'
    UNION ALL
    SELECT DISTINCT tenant, source, toDateTime64(0, 6, 'UTC') AS minute, 0 AS count FROM ${database}.deliveries_by_time
) AS named
LEFT JOIN (
    SELECT
        tenant, source,
        max(received_at) AS last,
        countIf(received_at > now64(6, 'UTC') - INTERVAL 28 DAY) AS received,
        arrayMap(one -> one / 1e6, arrayPopFront(arrayDifference(arraySort(
            groupArrayIf(toUnixTimestamp64Micro(received_at), received_at > now64(6, 'UTC') - INTERVAL 28 DAY)
        )))) AS between,
        if(
            empty(between),
            CAST([NULL, NULL, NULL, NULL, NULL], 'Array(Nullable(Float64))'),
            arrayMap(
                one -> toNullable(round(one, 6)),
                arrayReduce('quantilesExactInclusive(0.5, 0.9, 0.95, 0.99, 1)', between)
            )
        ) AS gaps
    FROM ${database}.deliveries_by_time FINAL
    GROUP BY tenant, source
) AS heard ON heard.tenant = named.tenant AND heard.source = named.source
GROUP BY tenant, source, heard.source, heard.last
COMMENT 'Time since the last delivery of each source, beside what is usual.';
