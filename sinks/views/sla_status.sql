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
    day, tenant, service, opened_at_source, target_hours,
    count() AS cases,
    countIf(closed AND taken <= target) AS met,
    countIf(closed AND taken > target) AS breached_closed,
    countIf(NOT closed AND taken > target) AS breached_open,
    countIf(NOT closed AND taken <= target AND taken > 0.8 * target) AS at_risk,
    countIf(NOT closed AND taken <= 0.8 * target) AS within,
    if(met + breached_closed + breached_open = 0, NULL, met / (met + breached_closed + breached_open)) AS met_rate
FROM (
    SELECT
        day, tenant, opened_at_source, closed, taken,
        arrayJoin(named) AS service,
        arrayJoin([1, 4, 8, 24, 48, 72, 120, 168, 240, 336, 720, CAST(NULL, 'Nullable(UInt16)')]) AS target_hours,
        ifNull(toInt64(target_hours) * 3600000000, allowed) AS target
    FROM (
        SELECT
            toDate(opened_at, 'UTC') AS day,
            tenant, opened_at_source,
            closed_at IS NOT NULL AS closed,
            dateDiff('microsecond', opened_at, ifNull(closed_at, now64(6, 'UTC'))) AS taken,
            dateDiff('microsecond', opened_at, deadline_at) AS allowed,
            arrayPushFront(arrayMap(one -> toString(one.name), services), '(all)') AS named
        FROM ${database}.current_cases
    )
)
GROUP BY day, tenant, service, opened_at_source, target_hours
COMMENT 'Cases that met or missed a target time, or still can meet it.';
