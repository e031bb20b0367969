"""The questions of a report, in ClickHouse's SQL. `{since:Date}` and `{tenant:String}` travel beside them."""

# ruff: noqa: S608 (all that is put in is a constant of this module)
from __future__ import annotations

AND_TENANT = "/* AND TENANT */"
"""Stands where a condition on the tenant belongs."""

OF_TENANT = "AND tenant = {tenant:String}"

TABLE_SECONDS = (3600, 14_400, 86_400, 259_200, 604_800, 1_209_600, 2_592_000, 5_184_000, 7_776_000)
"""Times at which the table says how many are still open: 1 and 4 hours, 1, 3, 7, 14, 30, 60 and 90 days."""

_SINCE = "toDateTime64({since:Date}, 6, 'UTC')"
_MEASURED = "opened_at_source IN ('event', 'link')"
_TAKEN = "dateDiff('microsecond', opened_at, closed_at) / 1e6"
_PERCENTILES = "quantilesExactInclusive(0.5, 0.9, 0.99)"


def latency(bucket_days: int) -> str:
    """Measured cases by the day, the week from Monday, or the month in which they closed."""
    closing_day = "toDate(closed_at, 'UTC')"
    start = {1: closing_day, 7: f"toMonday({closing_day})"}.get(bucket_days, f"toStartOfMonth({closing_day})")
    return f"""
SELECT day, cases AS count, q[1] AS p50, q[2] AS p90, q[3] AS p99
FROM (
    SELECT assumeNotNull({start}) AS day, count() AS cases, {_PERCENTILES}(assumeNotNull({_TAKEN})) AS q
    FROM current_cases
    WHERE closed_at >= {_SINCE} AND {_MEASURED} {AND_TENANT}
    GROUP BY day
)
ORDER BY day"""


# As the view case_latency defines the parts.
PARTS = f"""
SELECT part, service, measured, cases AS count, q[1] AS p50, q[2] AS p90, q[3] AS p99
FROM (
    SELECT
        piece.1 AS part, piece.2 AS service, piece.3 AS measured,
        count() AS cases, {_PERCENTILES}(assumeNotNull(piece.4)) AS q
    FROM (
        SELECT arrayJoin(arrayConcat(
            [
                ('case', '', {_MEASURED}, toNullable({_TAKEN})),
                ('kyb', '', initiated OR {_MEASURED}, dateDiff('microsecond', kyb_began_at, kyb_resolved_at) / 1e6),
                ('kyc', '', {_MEASURED}, dateDiff('microsecond', opened_at, kyc_final_at) / 1e6)
            ],
            arrayMap(
                one -> ('service', toString(one.name), true, dateDiff('microsecond', one.initiated_at, one.resolved_at) / 1e6),
                services
            )
        )) AS piece
        FROM (
            SELECT
                opened_at, opened_at_source, closed_at, kyb_resolved_at, kyc_final_at, services,
                ifNull(kyb_initiated_at <= kyb_resolved_at, false) AS initiated,
                if(initiated, assumeNotNull(kyb_initiated_at), opened_at) AS kyb_began_at
            FROM current_cases
            WHERE closed_at >= {_SINCE} {AND_TENANT}
        )
    )
    WHERE piece.4 IS NOT NULL AND (piece.1 != 'service' OR piece.4 >= 0)
    GROUP BY part, service, measured
)
ORDER BY indexOf(['case', 'kyb', 'kyc', 'service'], part), measured DESC, count DESC, service"""

_Z = 1.959963984540054
"""Of a 95 % confidence interval."""

# As the view case_latency_survival, for all that was opened in the period at once. Of its rows the last of each of 600 equal
# stretches is kept, and of each stretch between times of the table: so what the table says is exact, and so is each step drawn.
SURVIVAL = f"""
SELECT
    seconds,
    round(estimate, 9) AS survival,
    if(closings = 0 OR estimate = 0, NULL, round(pow(estimate, exp(-{_Z} * sqrt(variance) / log(estimate))), 9)) AS lower,
    if(closings = 0 OR estimate = 0, NULL, round(pow(estimate, exp({_Z} * sqrt(variance) / log(estimate))), 9)) AS upper,
    toInt64(at_risk) - ended - watched AS left,
    cases, closed, p50, p90
FROM (
    SELECT
        *,
        min(if(estimate <= 0.5 + 1e-12, seconds, NULL)) OVER () AS p50,
        min(if(estimate <= 0.1 + 1e-12, seconds, NULL)) OVER () AS p90,
        max(at_risk) OVER () AS cases,
        sum(ended) OVER () AS closed,
        intDiv(microseconds * 600, greatest(max(microseconds) OVER (), 1)) AS stretch,
        arrayCount(one -> seconds > one, {list(TABLE_SECONDS)}) AS times_passed
    FROM (
        SELECT
            microseconds, microseconds / 1e6 AS seconds, at_risk, ended, watched,
            sum(ended) OVER so_far AS closings,
            exp(sum(log1p(-ended / at_risk)) OVER so_far) AS estimate,
            sum(if(ended = at_risk, 0, ended / (at_risk * (at_risk - ended)))) OVER so_far AS variance
        FROM (
            SELECT
                microseconds, ended, watched,
                sum(ended + watched) OVER () - sum(ended + watched) OVER (ORDER BY microseconds) + ended + watched AS at_risk
            FROM (
                SELECT
                    greatest(dateDiff('microsecond', opened_at, ifNull(
                        closed_at, if(outcome = 'expired', deadline_at, now64(6, 'UTC'))
                    )), 0) AS microseconds,
                    countIf(closed_at IS NOT NULL) AS ended,
                    countIf(closed_at IS NULL) AS watched
                FROM current_cases
                WHERE opened_at >= {_SINCE} AND {_MEASURED} {AND_TENANT}
                GROUP BY microseconds
            )
        )
        WINDOW so_far AS (ORDER BY microseconds)
    )
)
ORDER BY microseconds DESC
LIMIT 1 BY stretch, times_passed"""

STRAIGHT_THROUGH = f"""
SELECT sum(straight_through_rate.straight_through) AS straight_through, sum(straight_through_rate.closed) AS closed
FROM straight_through_rate
WHERE service = '(all)' AND day >= {{since:Date}} {AND_TENANT}"""

FUNNEL = f"""
SELECT
    service,
    sum(funnel.cases) AS cases,
    sum(funnel.initiated) AS initiated,
    sum(funnel.resolved) AS resolved,
    sum(funnel.linked) AS linked,
    sum(funnel.kyc_received) AS kyc_received,
    sum(funnel.kyc_final) AS kyc_final,
    sum(funnel.completed) AS completed,
    sum(funnel.rejected) AS rejected,
    sum(funnel.expired) AS expired,
    sum(funnel.still_open) AS still_open
FROM funnel_by_service AS funnel
WHERE day >= {{since:Date}} {AND_TENANT}
GROUP BY service
ORDER BY service = '(all)' DESC, cases DESC, service"""

AGEING = f"""
SELECT
    bucket,
    sumIf(aging.cases, outcome = 'open') AS open,
    sumIf(aging.cases, outcome = 'awaiting_resubmission') AS awaiting_resubmission,
    sum(aging.past_deadline) AS past_deadline,
    sum(aging.opened_by_id_embedded) AS embedded,
    min(aging.oldest_opened_at) AS oldest_opened_at
FROM open_case_aging AS aging
WHERE true {AND_TENANT}
GROUP BY bucket"""


def deliveries(bucket_hours: int) -> str:
    """By hour, or by day."""
    start = "hour" if bucket_hours == 1 else "toDateTime(toDate(hour, 'UTC'), 'UTC')"
    return f"""
SELECT
    {start} AS start,
    sum(hourly.deliveries) AS deliveries,
    sum(hourly.duplicates) AS duplicates,
    sum(hourly.quarantined) AS quarantined
FROM duplicates_hourly AS hourly
WHERE hour >= toDateTime({{since:Date}}, 'UTC') {AND_TENANT}
GROUP BY start
ORDER BY start"""


_CLOSED_SINCE = f"ifNull(closed_at >= {_SINCE}, false)"

TENANTS = f"""
SELECT
    tenant, opened, closed, open,
    if(measured = 0, NULL, q[1]) AS p50, if(measured = 0, NULL, q[2]) AS p90, if(measured = 0, NULL, q[3]) AS p99
FROM (
    SELECT
        tenant,
        countIf(opened_at >= {_SINCE}) AS opened,
        countIf({_CLOSED_SINCE}) AS closed,
        countIf(outcome IN ('open', 'awaiting_resubmission')) AS open,
        countIf({_CLOSED_SINCE} AND {_MEASURED}) AS measured,
        quantilesExactInclusiveIf(0.5, 0.9, 0.99)(ifNull({_TAKEN}, 0), {_CLOSED_SINCE} AND {_MEASURED}) AS q
    FROM current_cases
    GROUP BY tenant
)
WHERE opened > 0 OR closed > 0 OR open > 0
ORDER BY opened DESC, tenant"""
