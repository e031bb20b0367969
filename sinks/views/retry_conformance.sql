-- Whether repeats come when the provider's document says. KYC: every 10 s in the first 10 minutes, every 5 minutes up to 1 hour,
-- every hour up to 48 hours, as long as the answer was not 200. A repeat is on schedule when the gap to the delivery before it is
-- a whole multiple of the interval that holds there, give or take 10 % of the interval: attempts that were turned away are not
-- deliveries, so a gap can span several. All deliveries here were answered 200, so none of these repeats was asked for; the
-- document does announce repeats without a failure. For KYB nothing is documented: gaps only.
-- Quantiles are exact, interpolated between the two nearest values.
CREATE OR REPLACE VIEW ${database}.retry_conformance
(
    day Date COMMENT 'Day the event was first delivered, UTC.',
    tenant LowCardinality(String) COMMENT 'Owner of the source.',
    source LowCardinality(String) COMMENT 'Name of the source of the first delivery.',
    phase LowCardinality(String) COMMENT 'By the delivery before the repeat: every 10 s, every 5 min, every hour; after 48 h by the repeat itself (6 minutes of grace); undocumented (KYB).',
    interval_seconds Nullable(UInt32) COMMENT 'The documented interval; null after 48 h and where nothing is documented.',
    events UInt64 COMMENT 'Events with repeats in this phase.',
    repeats UInt64 COMMENT 'Deliveries of these events in this phase, the first of each event not counted.',
    on_schedule Nullable(UInt64) COMMENT 'Of these, repeats on schedule; null where nothing is documented.',
    too_early Nullable(UInt64) COMMENT 'Of these, repeats that came sooner than the interval less 10 %.',
    off_schedule Nullable(UInt64) COMMENT 'Of these, all other: between two attempts of the schedule, or after 48 h.',
    conformance Nullable(Float64) COMMENT 'on_schedule / repeats.',
    gap_p50_seconds Float64 COMMENT 'Time since the delivery before, median.',
    gap_p90_seconds Float64 COMMENT 'The same, 90 % took no longer.',
    gap_p95_seconds Float64 COMMENT 'The same, 95 % took no longer.',
    gap_p99_seconds Float64 COMMENT 'The same, 99 % took no longer.'
)
AS WITH quantilesExactInclusive(0.5, 0.9, 0.95, 0.99)(gap) AS quantiles
SELECT
    day, tenant, source, phase, interval_seconds,
    uniqExact(event) AS events,
    count() AS repeats,
    if(phase = 'undocumented', NULL, countIf(punctual)) AS on_schedule,
    if(phase = 'undocumented', NULL, countIf(early)) AS too_early,
    if(phase = 'undocumented', NULL, countIf(NOT punctual AND NOT early)) AS off_schedule,
    on_schedule / repeats AS conformance,
    round(quantiles[1], 6) AS gap_p50_seconds,
    round(quantiles[2], 6) AS gap_p90_seconds,
    round(quantiles[3], 6) AS gap_p95_seconds,
    round(quantiles[4], 6) AS gap_p99_seconds
FROM (
    SELECT
        day, tenant, source, event,
        (repeat.2 - repeat.1) / 1e6 AS gap,
        multiIf(
            kind != 'kyc-registration', 'undocumented',
            repeat.2 > 173160000000, 'after 48 h',
            repeat.1 < 600000000, 'every 10 s',
            repeat.1 < 3600000000, 'every 5 min',
            'every hour'
        ) AS phase,
        CAST(
            transform(phase, ['every 10 s', 'every 5 min', 'every hour'], [10, 300, 3600], 0) AS seconds,
            'UInt32'
        ) AS documented,
        nullIf(documented, 0) AS interval_seconds,
        documented > 0 AND gap < 0.9 * documented AS early,
        documented > 0 AND NOT early AND abs(gap - round(gap / documented) * documented) <= 0.1 * documented AS punctual
    FROM (
        SELECT
            event, any(deliveries.tenant) AS tenant,
            argMin(deliveries.source, bitShiftLeft(toUInt128(toUnixTimestamp64Micro(received_at)), 64) + delivery) AS source,
            any(source_kind) AS kind,
            arraySort(groupArray(toUnixTimestamp64Micro(received_at))) AS times,
            toDate(fromUnixTimestamp64Micro(times[1], 'UTC'), 'UTC') AS day,
            arrayJoin(arrayZip(
                arrayMap(one -> one - times[1], arrayPopBack(times)),
                arrayMap(one -> one - times[1], arrayPopFront(times))
            )) AS repeat
        FROM ${database}.deliveries_by_time AS deliveries FINAL
        -- Only events that were delivered again.
        WHERE event != 0 AND event IN (SELECT event FROM ${database}.deliveries_by_time WHERE verdict = 'duplicate')
        GROUP BY event
    )
)
GROUP BY day, tenant, source, phase, interval_seconds
COMMENT 'Repeats against the documented schedule.';
