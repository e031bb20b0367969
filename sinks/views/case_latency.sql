-- How long closed cases took, by the day they closed. One row a part: of the whole case, of its KYB half, of its KYC half, and
-- of each service. Open cases are not in it: averages over closed ones alone are too low, see open_case_aging beside it.
-- Quantiles are exact, interpolated between the two nearest values (as numpy's default and PERCENTILE_CONT).
CREATE OR REPLACE VIEW ${database}.case_latency
(
    day Date COMMENT 'Day the case closed, UTC.',
    tenant LowCardinality(String) COMMENT 'Owner of the cases.',
    service String COMMENT 'KYB service; a case counts under each of its services, and once under (all).',
    part LowCardinality(String) COMMENT 'case: opening to close. kyb: first initiation, or else the opening, to resolved. kyc: opening to the final result, as received. service: initiation to resolution of this very service.',
    cases UInt64 COMMENT 'Cases that have this part.',
    opened_by_event UInt64 COMMENT 'Of these, cases whose start is the receipt of service_initiated.',
    opened_by_link UInt64 COMMENT 'Of these, cases whose start is the registration of a link.',
    opened_by_id_embedded UInt64 COMMENT 'Of these, cases whose start is the time that service_id seems to embed.',
    opened_by_first_receipt UInt64 COMMENT 'Of these, cases whose start is the first thing received: the true one was earlier.',
    mean_seconds Float64 COMMENT 'Mean duration.',
    p50_seconds Float64 COMMENT 'Median duration.',
    p90_seconds Float64 COMMENT '90 % took no longer.',
    p95_seconds Float64 COMMENT '95 % took no longer.',
    p99_seconds Float64 COMMENT '99 % took no longer.'
)
AS SELECT
    day, tenant, service, part,
    count() AS cases,
    countIf(opened_at_source = 'event') AS opened_by_event,
    countIf(opened_at_source = 'link') AS opened_by_link,
    countIf(opened_at_source = 'id_embedded') AS opened_by_id_embedded,
    countIf(opened_at_source = 'first_receipt') AS opened_by_first_receipt,
    round(avg(seconds), 6) AS mean_seconds,
    round(quantileExactInclusive(0.5)(seconds), 6) AS p50_seconds,
    round(quantileExactInclusive(0.9)(seconds), 6) AS p90_seconds,
    round(quantileExactInclusive(0.95)(seconds), 6) AS p95_seconds,
    round(quantileExactInclusive(0.99)(seconds), 6) AS p99_seconds
FROM (
    SELECT day, tenant, opened_at_source, of_service.1 AS service, measured.1 AS part, assumeNotNull(measured.2) AS seconds
    FROM (
        SELECT
            day, tenant, opened_at_source, of_service,
            arrayJoin([
                ('case', dateDiff('microsecond', opened_at, closed_at) / 1e6),
                ('kyb', dateDiff('microsecond', ifNull(kyb_initiated_at, opened_at), kyb_resolved_at) / 1e6),
                ('kyc', dateDiff('microsecond', opened_at, kyc_final_at) / 1e6),
                ('service', of_service.2)
            ]) AS measured
        FROM (
            SELECT
                toDate(assumeNotNull(closed_at), 'UTC') AS day,
                tenant, opened_at_source, opened_at, closed_at, kyb_initiated_at, kyb_resolved_at, kyc_final_at,
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
    WHERE measured.2 IS NOT NULL
)
GROUP BY day, tenant, service, part
COMMENT 'Durations of closed cases and of their parts, by day of closing, tenant and service.';
