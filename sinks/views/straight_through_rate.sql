-- How many of the closed cases needed no second look: completed, without a resubmission, without an anomaly, and closed once.
-- A case was opened again when an earlier version of it had closed at another time. Open and expired cases are not in it.
CREATE OR REPLACE VIEW ${database}.straight_through_rate
(
    day Date COMMENT 'Day the case closed, UTC; of one that was opened again, the last time.',
    tenant LowCardinality(String) COMMENT 'Owner of the cases.',
    service String COMMENT 'KYB service; a case counts under each of its services, and once under (all).',
    closed UInt64 COMMENT 'Cases that closed.',
    straight_through UInt64 COMMENT 'Of these, cases that fall under none of the next four.',
    rejected UInt64 COMMENT 'Of closed, cases that ended with a permanent rejection. A case can fall under several of these.',
    resubmitted UInt64 COMMENT 'Of closed, cases with a result that follows a temporary rejection.',
    reopened UInt64 COMMENT 'Of closed, cases that had closed before.',
    with_anomalies UInt64 COMMENT 'Of closed, cases with anything odd about them.',
    straight_through_rate Float64 COMMENT 'straight_through / closed.'
)
AS SELECT
    day, tenant, service,
    sum(in_all) AS closed,
    sum(straight) AS straight_through,
    sum(with_rejection) AS rejected,
    sum(with_resubmission) AS resubmitted,
    sum(opened_again) AS reopened,
    sum(odd) AS with_anomalies,
    straight_through / closed AS straight_through_rate
FROM (
    -- Cases of the same services are counted together first, and under each of these services afterwards.
    SELECT
        day, tenant, names,
        count() AS in_all,
        countIf(NOT was_rejected AND NOT was_resubmitted AND NOT was_reopened AND NOT was_odd) AS straight,
        countIf(was_rejected) AS with_rejection,
        countIf(was_resubmitted) AS with_resubmission,
        countIf(was_reopened) AS opened_again,
        countIf(was_odd) AS odd
    FROM (
        SELECT
            toDate(assumeNotNull(closed_at), 'UTC') AS day,
            tenant, services.name AS names,
            outcome = 'rejected' AS was_rejected,
            resubmissions > 0 AS was_resubmitted,
            (tenant, case_id) IN (
                SELECT tenant, case_id FROM ${database}.case_closings FINAL WHERE first_closed_at != last_closed_at
            ) AS was_reopened,
            notEmpty(anomalies) AS was_odd
        FROM ${database}.current_cases
        WHERE closed_at IS NOT NULL
    )
    GROUP BY day, tenant, names
)
ARRAY JOIN arrayPushFront(names, '(all)') AS service
GROUP BY day, tenant, service
COMMENT 'Closed cases that needed no second look.';
