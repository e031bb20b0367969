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
    substring(broken.1, 1, position(broken.1, ':') - 1) AS rule,
    substring(broken.1, position(broken.1, ':') + 1) AS field,
    broken.2 AS violations,
    in_all AS events,
    violations / events AS violation_rate
FROM (
    SELECT
        toDate(received_at, 'UTC') AS day, tenant, source, type,
        count() AS in_all,
        sumMap(codes, arrayWithConstant(length(codes), toUInt64(1))) AS found,
        arrayJoin(arrayZip(found.1, found.2)) AS broken
    FROM (
        SELECT
            received_at, tenant, source, type,
            if(
                empty(events.violations) AND empty(events.unknown_fields), [],
                arrayDistinct(arrayConcat(
                    arrayMap(one -> toString(one), events.violations),
                    arrayMap(one -> concat('undocumented:', one), events.unknown_fields)
                ))
            ) AS codes
        FROM ${database}.event_facts AS events FINAL
    )
    GROUP BY day, tenant, source, type
) AS counted
COMMENT 'Violations of the provider''s document by field.';
