-- Persons who were rejected temporarily (kycStatus 3): who came back, how it ended, and how long that took. Of each person the
-- results count in order of receipt, those of the same microsecond as in the case: without a known status, temporary rejections,
-- successes, permanent rejections. The loop ends with the first success or permanent rejection after the first temporary one.
-- Quantiles are exact, interpolated between the two nearest values.
CREATE OR REPLACE VIEW ${database}.resubmission_loops
(
    day Date COMMENT 'Day of the first temporary rejection, UTC.',
    tenant LowCardinality(String) COMMENT 'Owner of the source.',
    persons UInt64 COMMENT 'Persons whose first temporary rejection was received that day.',
    succeeded UInt64 COMMENT 'Of these, persons whose loop ended with a success (3 -> 1).',
    permanently_rejected UInt64 COMMENT 'Of these, persons whose loop ended with a permanent rejection (3 -> 2).',
    waiting UInt64 COMMENT 'Of these, persons whose loop has not ended.',
    temporary_rejections UInt64 COMMENT 'Temporary rejections of these persons, ever.',
    resubmissions UInt64 COMMENT 'Results of these persons that directly follow a temporary rejection.',
    max_temporary_rejections UInt64 COMMENT 'Most temporary rejections of one person.',
    success_p50_seconds Nullable(Float64) COMMENT 'Of succeeded: first temporary rejection to success, median; null when there are none.',
    success_p90_seconds Nullable(Float64) COMMENT 'The same, 90 % took no longer.',
    success_p95_seconds Nullable(Float64) COMMENT 'The same, 95 % took no longer.',
    success_p99_seconds Nullable(Float64) COMMENT 'The same, 99 % took no longer.'
)
AS SELECT
    day, tenant,
    count() AS persons,
    countIf(ended_with = 'success') AS succeeded,
    countIf(ended_with = 'permanent_rejection') AS permanently_rejected,
    countIf(ended_with = '') AS waiting,
    sum(rejections) AS temporary_rejections,
    sum(followed) AS resubmissions,
    max(rejections) AS max_temporary_rejections,
    round(quantileExactInclusiveOrNull(0.5)(success_seconds), 6) AS success_p50_seconds,
    round(quantileExactInclusiveOrNull(0.9)(success_seconds), 6) AS success_p90_seconds,
    round(quantileExactInclusiveOrNull(0.95)(success_seconds), 6) AS success_p95_seconds,
    round(quantileExactInclusiveOrNull(0.99)(success_seconds), 6) AS success_p99_seconds
FROM (
    SELECT
        tenant,
        arraySort(groupArray((
            received_at,
            indexOf(['temporary_rejection', 'success', 'permanent_rejection'], ifNull(toString(status), '')),
            ifNull(toString(status), '')
        ))) AS results,
        arrayFirstIndex(one -> one.3 = 'temporary_rejection', results) AS began,
        results[began].1 AS began_at,
        toDate(began_at, 'UTC') AS day,
        arrayFirst(one -> one.3 IN ('success', 'permanent_rejection'), arraySlice(results, began + 1)) AS ended,
        ended.3 AS ended_with,
        arrayCount(one -> one.3 = 'temporary_rejection', results) AS rejections,
        arrayCount(one -> one.3 = 'temporary_rejection', arrayPopBack(results)) AS followed,
        if(ended_with = 'success', dateDiff('microsecond', began_at, ended.1) / 1e6, NULL) AS success_seconds
    FROM ${database}.events_by_time FINAL
    -- Few persons are rejected temporarily: only their results are gathered.
    WHERE person != 0 AND person IN (SELECT person FROM ${database}.events_by_time WHERE status = 'temporary_rejection')
    GROUP BY tenant, person
    HAVING began > 0
)
GROUP BY day, tenant
COMMENT 'Persons rejected temporarily: who came back, and how it ended.';
