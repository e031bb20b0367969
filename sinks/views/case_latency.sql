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
    quantilesExactInclusiveArray(0.5, 0.9, 0.95, 0.99)(durations) AS quantiles,
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
    sum(length(durations)) AS cases,
    round(sum(arraySum(durations)) / cases / 1e6, 6) AS mean_seconds,
    round(quantiles[1] / 1e6, 6) AS p50_seconds,
    round(quantiles[2] / 1e6, 6) AS p90_seconds,
    round(quantiles[3] / 1e6, 6) AS p95_seconds,
    round(quantiles[4] / 1e6, 6) AS p99_seconds
FROM (
    -- All services in a branch of its own, which has no need of them: it is what is asked most. The three parts of a case are
    -- measured in one pass; the kyb half of cases of several sources can begin alike, so durations are put together above.
    SELECT
        day, tenant, toLowCardinality('(all)') AS service,
        measured.1 AS part, measured.2 AS opened_at_source, measured.3 AS durations
    FROM (
        SELECT
            day, tenant,
            [
                (toLowCardinality('case'), source, groupArray(lasted)),
                (toLowCardinality('kyb'), if(kyb_measured, toLowCardinality('event'), source), groupArrayIf(kyb, has_kyb)),
                (toLowCardinality('kyc'), source, groupArrayIf(kyc, has_kyc))
            ] AS parts
        FROM closed_cases
        GROUP BY day, tenant, source, kyb_measured
    )
    ARRAY JOIN parts AS measured
    WHERE notEmpty(durations)
    UNION ALL
    SELECT
        day, tenant, service,
        measured.1 AS part, measured.2 AS opened_at_source, measured.3 AS durations
    FROM (
        SELECT
            day, tenant, service,
            [
                (toLowCardinality('case'), source, groupArray(lasted)),
                (toLowCardinality('kyb'), if(kyb_measured, toLowCardinality('event'), source), groupArrayIf(kyb, has_kyb)),
                (toLowCardinality('kyc'), source, groupArrayIf(kyc, has_kyc)),
                (toLowCardinality('service'), toLowCardinality('event'), groupArrayIf(took, has_took))
            ] AS parts
        FROM (
            SELECT
                *, service,
                ifNull(initiated <= resolved, false) AS has_took,
                dateDiff('microsecond', assumeNotNull(initiated), assumeNotNull(resolved)) AS took
            FROM closed_cases
            ARRAY JOIN services.name AS service, services.initiated_at AS initiated, services.resolved_at AS resolved
        )
        GROUP BY day, tenant, source, kyb_measured, service
    )
    ARRAY JOIN parts AS measured
    WHERE notEmpty(durations)
)
GROUP BY day, tenant, service, part, opened_at_source
COMMENT 'Durations of closed cases and of their parts, by day of closing, tenant, service and kind of start.';
