-- Cases against a target time, from opening to close, for a choice of targets: pick yours by target_hours. The target null is the
-- case's own deadline (the tenant's setting case_deadline_days), when it expires.
-- A case that is not closed (open, awaiting a resubmission, expired) is breached once its target is over, and in time before.
-- One that was opened again is not closed, and counts from its first opening. Counts can be added up over days and tenants.
CREATE OR REPLACE VIEW ${database}.sla_status
(
    day Date COMMENT 'Day the case was opened, UTC.',
    tenant LowCardinality(String) COMMENT 'Owner of the cases.',
    service String COMMENT 'KYB service; a case counts under each of its services, and once under (all).',
    opened_at_source LowCardinality(String) COMMENT 'Where the opening comes from: event and link are measured, id_embedded and first_receipt are not.',
    target_hours Nullable(UInt16) COMMENT 'The target, in hours: 1, 4, 8, 24, 48, 72, 120, 168, 240, 336 or 720; null: deadline_at of the case.',
    cases UInt64 COMMENT 'Cases opened that day: met + breached_closed + breached_open + at_risk + within.',
    met UInt64 COMMENT 'Closed within the target, or exactly at its end.',
    breached_closed UInt64 COMMENT 'Closed later.',
    breached_open UInt64 COMMENT 'Not closed, and the target is over.',
    at_risk UInt64 COMMENT 'Not closed, and more than 80 % of the target is over.',
    within UInt64 COMMENT 'Not closed, and less of it is over.',
    met_rate Nullable(Float64) COMMENT 'met / (met + breached_closed + breached_open); null while nothing is decided.'
)
AS SELECT
    day, tenant, service, opened_at_source,
    measured.1 AS target_hours,
    measured.2 + measured.3 + measured.4 + measured.5 + measured.6 AS cases,
    measured.2 AS met,
    measured.3 AS breached_closed,
    measured.4 AS breached_open,
    measured.5 AS at_risk,
    measured.6 AS within,
    if(met + breached_closed + breached_open = 0, NULL, met / (met + breached_closed + breached_open)) AS met_rate
FROM (
    SELECT
        day, tenant, service, opened_at_source,
        -- Of the first so many targets: cases that lasted no longer than the last of these.
        arrayCumSum(arrayMap(one -> toInt64(one), sumForEach(closed_over))) AS closed_in_time,
        arrayCumSum(arrayMap(one -> toInt64(one), sumForEach(open_over))) AS open_in_time,
        arrayCumSum(arrayMap(one -> toInt64(one), sumForEach(open_near))) AS open_early,
        arrayJoin(arrayPushBack(
            arrayMap(
                (hours, number) -> (
                    toNullable(hours),
                    closed_in_time[number], closed_in_time[12] - closed_in_time[number],
                    open_in_time[12] - open_in_time[number], open_in_time[number] - open_early[number], open_early[number]
                ),
                CAST([1, 4, 8, 24, 48, 72, 120, 168, 240, 336, 720], 'Array(UInt16)') AS all_hours,
                arrayEnumerate(all_hours)
            ),
            (
                CAST(NULL, 'Nullable(UInt16)'),
                toInt64(sum(by_deadline[1])), toInt64(sum(by_deadline[2])),
                toInt64(sum(by_deadline[3])), toInt64(sum(by_deadline[4])), toInt64(sum(by_deadline[5]))
            )
        )) AS measured
    FROM (
        -- Cases of the same services are counted together first, and under each of these services afterwards.
        SELECT
            day, tenant, opened_at_source, any(named) AS names,
            -- How many cases are over 0, 1, ... 11 of the targets.
            countIfResample(0, 12, 1)(closed, over) AS closed_over,
            countIfResample(0, 12, 1)(NOT closed, over) AS open_over,
            countIfResample(0, 12, 1)(NOT closed, near) AS open_near,
            [
                countIf(closed AND taken <= allowed), countIf(closed AND taken > allowed), countIf(NOT closed AND taken > allowed),
                countIf(NOT closed AND taken <= allowed AND taken > 0.8 * allowed), countIf(NOT closed AND taken <= 0.8 * allowed)
            ] AS by_deadline
        FROM (
            SELECT
                toDate(opened_at, 'UTC') AS day,
                tenant, opened_at_source, services.name AS named,
                closed_at IS NOT NULL AS closed,
                dateDiff('microsecond', opened_at, ifNull(closed_at, now64(6, 'UTC'))) AS taken,
                dateDiff('microsecond', opened_at, deadline_at) AS allowed,
                arrayCount(hours -> taken > hours * 3600000000, [1, 4, 8, 24, 48, 72, 120, 168, 240, 336, 720]) AS over,
                arrayCount(hours -> taken > hours * 2880000000, [1, 4, 8, 24, 48, 72, 120, 168, 240, 336, 720]) AS near -- 80 %
            FROM ${database}.current_cases
        )
        GROUP BY day, tenant, opened_at_source, cityHash64(named) -- an array as a key takes longer
    )
    ARRAY JOIN arrayPushFront(names, '(all)') AS service
    GROUP BY day, tenant, service, opened_at_source
) AS counted
COMMENT 'Cases that met or missed a target time, or still can meet it.';
