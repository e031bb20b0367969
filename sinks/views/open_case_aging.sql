-- Cases that are neither closed nor expired, by how long they have been open, in whole days since opened_at.
CREATE OR REPLACE VIEW ${database}.open_case_aging
(
    tenant LowCardinality(String) COMMENT 'Owner of the cases.',
    outcome LowCardinality(String) COMMENT 'open, or awaiting_resubmission.',
    bucket LowCardinality(String) COMMENT 'Age in whole days: 0-2, 3-10, 11-30 or 31+.',
    from_day UInt8 COMMENT 'First day of the bucket; sort by it.',
    cases UInt64 COMMENT 'Cases of that age.',
    opened_by_id_embedded UInt64 COMMENT 'Of these, cases whose age counts from the time that service_id seems to embed: not a measured one.',
    oldest_opened_at DateTime64(6, 'UTC') COMMENT 'Opening of the oldest of them.',
    past_deadline UInt64 COMMENT 'Of these, cases whose deadline is over and whose expiry is not yet written.'
)
AS SELECT
    tenant,
    outcome,
    multiIf(days < 3, '0-2', days < 11, '3-10', days < 31, '11-30', '31+') AS bucket,
    multiIf(days < 3, 0, days < 11, 3, days < 31, 11, 31) AS from_day,
    count() AS cases,
    countIf(opened_at_source = 'id_embedded') AS opened_by_id_embedded,
    min(opened_at) AS oldest_opened_at,
    countIf(deadline_at < now64(6)) AS past_deadline
FROM (
    SELECT
        tenant, outcome, opened_at, opened_at_source, deadline_at,
        intDiv(dateDiff('second', opened_at, now64(6)), 86400) AS days
    FROM ${database}.current_cases
    WHERE outcome IN ('open', 'awaiting_resubmission')
)
GROUP BY tenant, outcome, bucket, from_day
COMMENT 'Open cases by age.';
