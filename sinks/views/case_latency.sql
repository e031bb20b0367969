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
AS WITH
    quantilesExactInclusiveIfMerge(0.5, 0.9, 0.95, 0.99)(durations) AS quantiles,
    closed_cases AS (
        SELECT
            toDate(assumeNotNull(closed_at), 'UTC') AS day,
            tenant, services,
            opened_at_source AS source,
            ifNull(kyb_initiated_at <= kyb_resolved_at, false) AS kyb_measured,
            kyb_resolved_at IS NOT NULL AS has_kyb,
            kyc_final_at IS NOT NULL AS has_kyc,
            dateDiff('microsecond', opened_at, assumeNotNull(closed_at)) AS lasted,
            dateDiff('microsecond', if(kyb_measured, assumeNotNull(kyb_initiated_at), opened_at), assumeNotNull(kyb_resolved_at)) AS kyb,
            dateDiff('microsecond', opened_at, assumeNotNull(kyc_final_at)) AS kyc
        FROM ${database}.current_cases
        WHERE closed_at IS NOT NULL
    )
SELECT
    day, tenant, service, part, opened_at_source,
    sum(many) AS cases,
    round(sum(total) / cases / 1e6, 6) AS mean_seconds,
    round(quantiles[1] / 1e6, 6) AS p50_seconds,
    round(quantiles[2] / 1e6, 6) AS p90_seconds,
    round(quantiles[3] / 1e6, 6) AS p95_seconds,
    round(quantiles[4] / 1e6, 6) AS p99_seconds
FROM (
    SELECT
        day, tenant, arrayJoin(arrayPushFront(names, '(all)')) AS service,
        measured.1 AS part, measured.2 AS opened_at_source, measured.3 AS many, measured.4 AS total, measured.5 AS durations
    FROM (
        -- Cases of the same services are counted together first, and under each of these services afterwards. The kyb half of
        -- cases of several sources can begin alike, so their states are merged above.
        SELECT
            day, tenant, services.name AS names,
            [
                ('case', toString(source), count(), sum(lasted), quantilesExactInclusiveIfState(0.5, 0.9, 0.95, 0.99)(lasted, true)),
                (
                    'kyb', if(kyb_measured, 'event', toString(source)),
                    countIf(has_kyb), sumIf(kyb, has_kyb), quantilesExactInclusiveIfState(0.5, 0.9, 0.95, 0.99)(kyb, has_kyb)
                ),
                (
                    'kyc', toString(source),
                    countIf(has_kyc), sumIf(kyc, has_kyc), quantilesExactInclusiveIfState(0.5, 0.9, 0.95, 0.99)(kyc, has_kyc)
                )
            ] AS parts
        FROM closed_cases
        GROUP BY day, tenant, names, source, kyb_measured
    )
    ARRAY JOIN parts AS measured
    WHERE many > 0
    UNION ALL
    SELECT
        day, tenant, toString(name) AS service, 'service' AS part, 'event' AS opened_at_source,
        count() AS many, sum(took) AS total, quantilesExactInclusiveIfState(0.5, 0.9, 0.95, 0.99)(took, true) AS durations
    FROM (
        SELECT day, tenant, name, assumeNotNull(dateDiff('microsecond', initiated, resolved)) AS took
        FROM closed_cases
        ARRAY JOIN services.name AS name, services.initiated_at AS initiated, services.resolved_at AS resolved
        WHERE ifNull(initiated <= resolved, false)
    )
    GROUP BY day, tenant, name
)
GROUP BY day, tenant, service, part, opened_at_source
COMMENT 'Durations of closed cases and of their parts, by day of closing, tenant, service and kind of start.';
