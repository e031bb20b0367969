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
AS SELECT
    tenant, service, part, opened_at_source, seconds, at_risk, closed, censored,
    round(estimate, 9) AS survival,
    if(closings = 0 OR estimate = 0, NULL, round(pow(estimate, exp(-1.959963984540054 * sqrt(variance) / log(estimate))), 9)) AS survival_lower_95,
    if(closings = 0 OR estimate = 0, NULL, round(pow(estimate, exp(1.959963984540054 * sqrt(variance) / log(estimate))), 9)) AS survival_upper_95
FROM (
    SELECT
        tenant, service, part, opened_at_source, seconds, at_risk, closed, censored,
        sum(closed) OVER so_far AS closings,
        exp(sum(log1p(-closed / at_risk)) OVER so_far) AS estimate,
        sum(if(closed = at_risk, 0, closed / (at_risk * (at_risk - closed)))) OVER so_far AS variance
    FROM (
        SELECT
            tenant, service, part, opened_at_source,
            microseconds / 1e6 AS seconds,
            toUInt64(sum(ended + watched) OVER (PARTITION BY tenant, service, part, opened_at_source)
                - sum(ended + watched) OVER (PARTITION BY tenant, service, part, opened_at_source ORDER BY microseconds)
                + ended + watched) AS at_risk,
            ended AS closed,
            watched AS censored
        FROM (
            SELECT
                tenant, measured.1 AS service, measured.2 AS part, measured.3 AS opened_at_source,
                greatest(dateDiff('microsecond', assumeNotNull(measured.4), assumeNotNull(ifNull(measured.5, until))), 0) AS microseconds,
                countIf(measured.5 IS NOT NULL) AS ended,
                countIf(measured.5 IS NULL) AS watched
            FROM (
                SELECT
                    tenant, until,
                    arrayJoin(arrayConcat(
                        [('(all)', 'case', source, toNullable(opened_at), closed_at)],
                        if(kyb_status = 'none', [], [(
                            '(all)', 'kyb', if(kyb_measured, 'event', source),
                            if(kyb_measured, kyb_initiated_at, toNullable(opened_at)), kyb_resolved_at
                        )]),
                        if(kyc_status = 'none', [], [('(all)', 'kyc', source, toNullable(opened_at), kyc_final_at)]),
                        arrayMap(
                            one -> (toString(one.name), 'service', 'event', one.initiated_at, one.resolved_at),
                            arrayFilter(
                                one -> one.initiated_at IS NOT NULL AND ifNull(one.resolved_at >= one.initiated_at, true),
                                services
                            )
                        )
                    )) AS measured
                FROM (
                    SELECT
                        tenant, services, opened_at, closed_at, kyb_status, kyb_initiated_at, kyb_resolved_at, kyc_status, kyc_final_at,
                        toString(opened_at_source) AS source,
                        kyb_initiated_at IS NOT NULL AND ifNull(kyb_initiated_at <= kyb_resolved_at, true) AS kyb_measured,
                        ifNull(closed_at, if(outcome = 'expired', deadline_at, now64(6, 'UTC'))) AS until
                    FROM ${database}.current_cases
                )
            )
            GROUP BY tenant, service, part, opened_at_source, microseconds
        )
    )
    WINDOW so_far AS (PARTITION BY tenant, service, part, opened_at_source ORDER BY seconds)
) AS estimated
COMMENT 'Share of cases still open after a time, open ones included: Kaplan-Meier.';
