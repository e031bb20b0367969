-- How long closed cases took, by the day they closed. One row a part: of the whole case, of its KYB half, of its KYC half, and
-- of each service; and one row for each kind of start, so that a time that is only embedded in an id is never mixed with
-- measured ones. A part whose end was received before its start is measured from the opening (kyb), or left out (service).
-- Open cases are not in it: averages over closed ones alone are too low, see case_latency_survival and open_case_aging.
-- Quantiles are exact, interpolated between the two nearest values (as numpy's default and PERCENTILE_CONT).
CREATE OR REPLACE VIEW ${database}.case_latency
(
    day Date COMMENT 'Day the case closed, UTC.',
    tenant LowCardinality(String) COMMENT 'Owner of the cases.',
    service String COMMENT 'KYB service; a case counts under each of its services, and once under (all).',
    part LowCardinality(String) COMMENT 'case: opening to close. kyb: first initiation, or else the opening, to resolved. kyc: opening to the final result, as received. service: initiation to resolution of this very service.',
    opened_at_source LowCardinality(String) COMMENT 'Where the start comes from. Measured: event (receipt of service_initiated), link (registration of a link). Not measured: id_embedded (the time that service_id seems to embed), first_receipt (the true start was earlier).',
    cases UInt64 COMMENT 'Cases that have this part.',
    mean_seconds Float64 COMMENT 'Mean duration.',
    p50_seconds Float64 COMMENT 'Median duration.',
    p90_seconds Float64 COMMENT '90 % took no longer.',
    p95_seconds Float64 COMMENT '95 % took no longer.',
    p99_seconds Float64 COMMENT '99 % took no longer.'
)
AS SELECT
    day, tenant, service, part, opened_at_source,
    count() AS cases,
    round(avg(seconds), 6) AS mean_seconds,
    round(quantileExactInclusive(0.5)(seconds), 6) AS p50_seconds,
    round(quantileExactInclusive(0.9)(seconds), 6) AS p90_seconds,
    round(quantileExactInclusive(0.95)(seconds), 6) AS p95_seconds,
    round(quantileExactInclusive(0.99)(seconds), 6) AS p99_seconds
FROM (
    SELECT
        day, tenant, of_service.1 AS service,
        measured.1 AS part, measured.2 AS opened_at_source, assumeNotNull(measured.3) AS seconds
    FROM (
        SELECT
            day, tenant, of_service,
            arrayJoin([
                ('case', source, dateDiff('microsecond', opened_at, closed_at) / 1e6),
                (
                    'kyb',
                    if(kyb_measured, 'event', source),
                    dateDiff('microsecond', if(kyb_measured, assumeNotNull(kyb_initiated_at), opened_at), kyb_resolved_at) / 1e6
                ),
                ('kyc', source, dateDiff('microsecond', opened_at, kyc_final_at) / 1e6),
                ('service', 'event', if(of_service.2 >= 0, of_service.2, NULL))
            ]) AS measured
        FROM (
            SELECT
                toDate(assumeNotNull(closed_at), 'UTC') AS day,
                tenant, opened_at, closed_at, kyb_initiated_at, kyb_resolved_at, kyc_final_at,
                toString(opened_at_source) AS source,
                ifNull(kyb_initiated_at <= kyb_resolved_at, false) AS kyb_measured,
                arrayJoin(arrayPushFront(
                    arrayMap(
                        one -> (toString(one.name), dateDiff('microsecond', one.initiated_at, one.resolved_at) / 1e6),
                        services
                    ),
                    ('(all)', CAST(NULL, 'Nullable(Float64)'))
                )) AS of_service
            FROM ${database}.current_cases
            WHERE closed_at IS NOT NULL
        )
    )
    WHERE measured.3 IS NOT NULL
)
GROUP BY day, tenant, service, part, opened_at_source
COMMENT 'Durations of closed cases and of their parts, by day of closing, tenant, service and kind of start.';
