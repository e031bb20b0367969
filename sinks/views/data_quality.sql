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
    rule LowCardinality(String) COMMENT 'missing, type, too_long, unknown, invalid (see topics.md, Violations) or undocumented.',
    field String COMMENT 'Name of the field.',
    violations UInt64 COMMENT 'Events that break this rule at this field.',
    events UInt64 COMMENT 'All events of this day, tenant, source and type.',
    violation_rate Float64 COMMENT 'violations / events.'
)
AS SELECT
    day, tenant, source, type,
    substring(code, 1, position(code, ':') - 1) AS rule,
    substring(code, position(code, ':') + 1) AS field,
    found AS violations,
    max(if(code = '', found, 0)) OVER (PARTITION BY day, tenant, source, type) AS events,
    violations / events AS violation_rate
FROM (
    SELECT
        toDate(received_at, 'UTC') AS day, tenant, source, type,
        arrayJoin(arrayDistinct(arrayConcat(
            arrayMap(one -> toString(one), events.violations),
            arrayMap(one -> concat('undocumented:', one), events.unknown_fields),
            ['']
        ))) AS code,
        count() AS found
    FROM ${database}.events AS events FINAL
    GROUP BY day, tenant, source, type, code
)
QUALIFY code != ''
COMMENT 'Violations of the provider''s document by field.';
