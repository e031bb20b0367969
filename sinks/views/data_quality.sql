-- Where events break the provider's document, field by field. They are accepted all the same. Each event counts once, however
-- often it was delivered, and once under each of its violations. A field that the document does not know is not a violation, but
-- is told here as the rule `undocumented`: often the first sign of a new version. Bodies that cannot be read at all make no event:
-- they are quarantined, see delivery_duplicates. Who breaks nothing has no row.
CREATE OR REPLACE VIEW ${database}.data_quality
(
    day Date COMMENT 'Day of receipt, UTC.',
    tenant LowCardinality(String) COMMENT 'Owner of the source.',
    source LowCardinality(String) COMMENT 'Name of the source.',
    type LowCardinality(String) COMMENT 'The KYB type, or kyc_result.',
    rule LowCardinality(String) COMMENT 'missing, type, too_long, unknown, unreadable, invalid (see topics.md, Violations) or undocumented.',
    field String COMMENT 'Name of the field.',
    violations UInt64 COMMENT 'Events that break this rule at this field.',
    events UInt64 COMMENT 'All events of this day, tenant, source and type.',
    violation_rate Float64 COMMENT 'violations / events.'
)
AS SELECT
    day, tenant, source, type,
    substring(code, 1, position(code, ':') - 1) AS rule,
    substring(code, position(code, ':') + 1) AS field,
    count() AS violations,
    any(in_all) AS events,
    violations / events AS violation_rate
FROM (
    SELECT
        day, tenant, source, type, in_all,
        arrayJoin(arrayDistinct(arrayConcat(
            arrayMap(one -> toString(one), broken.1),
            arrayMap(one -> concat('undocumented:', one), broken.2)
        ))) AS code
    FROM (
        -- Few events break anything: only their violations are gathered.
        SELECT
            toDate(received_at, 'UTC') AS day, tenant, source, type,
            count() AS in_all,
            groupArrayIf((events.violations, unknown_fields), notEmpty(events.violations) OR notEmpty(unknown_fields)) AS all_broken
        FROM ${database}.events_by_time AS events FINAL
        GROUP BY day, tenant, source, type
    )
    ARRAY JOIN all_broken AS broken
)
GROUP BY day, tenant, source, type, code
COMMENT 'Violations of the provider''s document by field.';
