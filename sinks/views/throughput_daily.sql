-- How many cases come in and go out a day, and how many are left. As cases stand now: one that was opened again counts as opened
-- once, and not as closed. A day on which nothing was opened, closed or expired has no row.
CREATE OR REPLACE VIEW ${database}.throughput_daily
(
    day Date COMMENT 'UTC.',
    tenant LowCardinality(String) COMMENT 'Owner of the cases.',
    opened UInt64 COMMENT 'Cases whose opened_at is on this day.',
    opened_unmeasured UInt64 COMMENT 'Of these, cases whose true opening is not known: opened_at_source is id_embedded or first_receipt.',
    completed UInt64 COMMENT 'Cases that closed on this day as completed.',
    rejected UInt64 COMMENT 'Cases that closed on this day as rejected.',
    expired UInt64 COMMENT 'Cases whose deadline passed on this day, and that are expired.',
    open_at_end Int64 COMMENT 'Cases opened and neither closed nor expired by the end of this day.'
)
AS SELECT
    day, tenant, opened, opened_unmeasured, completed, rejected, expired,
    sum(toInt64(opened) - toInt64(completed) - toInt64(rejected) - toInt64(expired)) OVER (PARTITION BY tenant ORDER BY day) AS open_at_end
FROM (
    SELECT
        assumeNotNull(change.1) AS day,
        tenant,
        countIf(change.2 = 'opened') AS opened,
        countIf(change.2 = 'opened' AND opened_at_source IN ('id_embedded', 'first_receipt')) AS opened_unmeasured,
        countIf(change.2 = 'completed') AS completed,
        countIf(change.2 = 'rejected') AS rejected,
        countIf(change.2 = 'expired') AS expired
    FROM (
        SELECT
            tenant, opened_at_source,
            arrayJoin([
                (toNullable(toDate(opened_at, 'UTC')), 'opened'),
                (toDate(closed_at, 'UTC'), toString(outcome)),
                (if(outcome = 'expired', toNullable(toDate(deadline_at, 'UTC')), NULL), 'expired')
            ]) AS change
        FROM ${database}.current_cases
    )
    WHERE change.1 IS NOT NULL
    GROUP BY day, tenant
) AS counted
COMMENT 'Cases opened, closed, expired and left open, by day.';
