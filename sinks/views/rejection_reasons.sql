-- Why KYC results are rejections, as far as the provider says. A result counts once under each of its reasons, or under (none);
-- repeated deliveries of it do not count again. Reasons are code-like values of kycFailJson; anything else there is `other`.
CREATE OR REPLACE VIEW ${database}.rejection_reasons
(
    day Date COMMENT 'Day of receipt, UTC.',
    tenant LowCardinality(String) COMMENT 'Owner of the source.',
    source LowCardinality(String) COMMENT 'Name of the source.',
    status LowCardinality(String) COMMENT 'permanent_rejection or temporary_rejection.',
    reason LowCardinality(String) COMMENT 'The code; other; or (none): the result gives no reason.',
    results UInt64 COMMENT 'Results with this status and reason.',
    persons UInt64 COMMENT 'Distinct persons among them.',
    share Float64 COMMENT 'results / all results of this day, tenant, source and status. Shares add up to more than 1 where results give several reasons.'
)
AS SELECT
    day, tenant, source, status, reason, results, persons,
    results / max(results_in_all) OVER (PARTITION BY day, tenant, source, status) AS share
FROM (
    SELECT
        toDate(received_at, 'UTC') AS day,
        tenant, source,
        assumeNotNull(events.status) AS status,
        arrayJoin(arrayConcat(if(empty(fail_reasons), ['(none)'], arrayMap(one -> toString(one), arrayDistinct(fail_reasons))), [''])) AS reason,
        count() AS results,
        uniqExactIf(person, person != 0) AS persons,
        if(reason = '', results, 0) AS results_in_all
    FROM ${database}.events_by_time AS events FINAL
    WHERE events.status IN ('permanent_rejection', 'temporary_rejection') AND type = 'kyc_result'
    GROUP BY day, tenant, source, status, reason
)
QUALIFY reason != ''
COMMENT 'Rejected KYC results by the reasons that the provider gives.';
