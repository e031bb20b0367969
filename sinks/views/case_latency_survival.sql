-- What share of the cases was still open after so many seconds: the Kaplan-Meier (product-limit) estimator, which open cases
-- take part in for as long as they have been open. So it does not look better than it is while slow cases are still under way.
-- A part ends with its closing; it is censored (known to have lasted longer) now, or when its case expired, or when its case
-- closed without it. Closings at the same time make one step; who is censored at a time was still at risk at it.
-- One row for each distinct duration of each group. The median is min(seconds) of the rows with survival <= 0.5; with no such
-- row more than half are open longer than anybody has been watched. A group without any closing has survival 1 throughout.
CREATE OR REPLACE VIEW ${database}.case_latency_survival
(
    tenant LowCardinality(String) COMMENT 'Owner of the cases.',
    service String COMMENT '(all) for the parts case, kyb and kyc; a KYB service for the part service.',
    part LowCardinality(String) COMMENT 'As in case_latency. kyb and kyc: of cases that have this half; service: of services that were initiated before they were resolved.',
    opened_at_source LowCardinality(String) COMMENT 'Where the start comes from, as in case_latency: kinds of start are not mixed.',
    seconds Float64 COMMENT 'Duration: time since the start.',
    at_risk UInt64 COMMENT 'Cases that lasted at least so long, as far as is known.',
    closed UInt64 COMMENT 'Of these, cases whose part ended after exactly so long.',
    censored UInt64 COMMENT 'Of these, cases that were watched for exactly so long, without an end.',
    survival Float64 COMMENT 'Estimated share that lasts longer than seconds.',
    survival_lower_95 Nullable(Float64) COMMENT 'Lower end of the pointwise 95 % confidence interval (Greenwood, log-log); null where survival is 0 or 1.',
    survival_upper_95 Nullable(Float64) COMMENT 'Upper end of it.'
)
AS WITH
    -- A duration is a number of microseconds, twice, and one more if nothing ended then. Sorted, closings come before what is censored.
    arraySort(groupArrayArray(durations)) AS sorted,
    length(sorted) AS watched,
    arrayMap((one, next) -> bitXor(one, next) > 1, sorted, arrayPushBack(arrayPopFront(sorted), toUInt64(-2))) AS is_last,
    -- Of each distinct duration: how many are over by then, and how many of them ended.
    arrayFilter((one, last) -> last, arrayEnumerate(sorted), is_last) AS over,
    arrayFilter((one, last) -> last, arrayCumSum(arrayMap(one -> bitXor(bitAnd(one, 1), 1), sorted)), is_last) AS ended,
    arrayPushFront(arrayPopBack(over), 0) AS over_before,
    arrayMap((one, before) -> one - before, ended, arrayPushFront(arrayPopBack(ended), 0)) AS ended_then,
    arrayMap(before -> watched - before, over_before) AS left_then
SELECT
    tenant, service, part, opened_at_source, seconds, at_risk, closed, censored,
    round(estimate, 9) AS survival,
    if(closings = 0 OR estimate = 0, NULL, round(pow(estimate, exp(-1.959963984540054 * sqrt(variance) / log(estimate))), 9)) AS survival_lower_95,
    if(closings = 0 OR estimate = 0, NULL, round(pow(estimate, exp(1.959963984540054 * sqrt(variance) / log(estimate))), 9)) AS survival_upper_95
FROM (
    SELECT
        tenant, service, part, opened_at_source,
        arrayMap(one -> bitShiftRight(one, 1) / 1e6, arrayFilter((one, last) -> last, sorted, is_last)) AS all_seconds,
        left_then AS all_at_risk,
        ended_then AS all_closed,
        arrayMap((one, before, closings) -> one - before - closings, over, over_before, ended_then) AS all_censored,
        ended AS all_closings,
        arrayMap(one -> exp(one), arrayCumSum(arrayMap((ends, left) -> log1p(-ends / left), ended_then, left_then))) AS all_estimates,
        arrayCumSum(arrayMap((ends, left) -> if(ends = left, 0, ends / (left * (left - ends))), ended_then, left_then)) AS all_variances
    FROM (
        -- The three parts of a case in one pass: to read the cases takes longer than to measure them.
        SELECT
            tenant, toLowCardinality('(all)') AS service, measured.1 AS part, measured.2 AS opened_at_source, measured.3 AS durations
        FROM (
            SELECT
                tenant,
                [
                    (toLowCardinality('case'), source, groupArray(toUInt64(
                        greatest(dateDiff('microsecond', opened_at, ifNull(closed_at, until)), 0) * 2 + (closed_at IS NULL)
                    ))),
                    (toLowCardinality('kyb'), if(kyb_measured, toLowCardinality('event'), source), groupArrayIf(toUInt64(
                        greatest(dateDiff('microsecond', kyb_began_at, ifNull(kyb_resolved_at, until)), 0) * 2 + (kyb_resolved_at IS NULL)
                    ), kyb_status != 'none')),
                    (toLowCardinality('kyc'), source, groupArrayIf(toUInt64(
                        greatest(dateDiff('microsecond', opened_at, ifNull(kyc_final_at, until)), 0) * 2 + (kyc_final_at IS NULL)
                    ), kyc_status != 'none'))
                ] AS parts
            FROM (
                SELECT
                    tenant, opened_at, closed_at, kyb_status, kyb_resolved_at, kyc_status, kyc_final_at,
                    opened_at_source AS source,
                    kyb_initiated_at IS NOT NULL AND ifNull(kyb_initiated_at <= kyb_resolved_at, true) AS kyb_measured,
                    if(kyb_measured, assumeNotNull(kyb_initiated_at), opened_at) AS kyb_began_at,
                    ifNull(closed_at, if(outcome = 'expired', deadline_at, now64(6, 'UTC'))) AS until
                FROM ${database}.current_cases
            )
            GROUP BY tenant, source, kyb_measured
        )
        ARRAY JOIN parts AS measured
        WHERE notEmpty(durations)
        UNION ALL
        SELECT
            tenant, name AS service, toLowCardinality('service') AS part, toLowCardinality('event') AS opened_at_source,
            groupArray(toUInt64(
                greatest(dateDiff('microsecond', assumeNotNull(initiated), ifNull(resolved, until)), 0) * 2 + (resolved IS NULL)
            )) AS durations
        FROM (
            SELECT tenant, services, ifNull(closed_at, if(outcome = 'expired', deadline_at, now64(6, 'UTC'))) AS until
            FROM ${database}.current_cases
        )
        ARRAY JOIN services.name AS name, services.initiated_at AS initiated, services.resolved_at AS resolved
        WHERE initiated IS NOT NULL AND ifNull(resolved >= initiated, true)
        GROUP BY tenant, name
    )
    GROUP BY tenant, service, part, opened_at_source
)
ARRAY JOIN
    all_seconds AS seconds, all_at_risk AS at_risk, all_closed AS closed, all_censored AS censored,
    all_closings AS closings, all_estimates AS estimate, all_variances AS variance
COMMENT 'Share of cases still open after a time, open ones included: Kaplan-Meier.';
