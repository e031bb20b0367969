-- When repeats come: a provider that gets no 200 sends again within minutes, so a bad hour shows as a peak, which a day hides.
-- Counts can be added up over hours, tenants and sources. An hour without a delivery has no row.
CREATE OR REPLACE VIEW ${database}.duplicates_hourly
(
    hour DateTime('UTC') COMMENT 'Start of the hour of receipt, UTC.',
    tenant LowCardinality(String) COMMENT 'Owner of the source.',
    source LowCardinality(String) COMMENT 'Name of the source.',
    deliveries UInt64 COMMENT 'Deliveries received: new, duplicates and quarantined.',
    duplicates UInt64 COMMENT 'Of these, repeats of a known event.',
    quarantined UInt64 COMMENT 'Of these, deliveries that went to the dead letters.',
    duplicate_rate Float64 COMMENT 'duplicates / deliveries.'
)
AS SELECT
    toStartOfHour(received_at, 'UTC') AS hour, tenant, source,
    count() AS deliveries,
    countIf(verdict = 'duplicate') AS duplicates,
    countIf(verdict = 'quarantined') AS quarantined,
    duplicates / deliveries AS duplicate_rate
FROM ${database}.deliveries_by_time FINAL
GROUP BY hour, tenant, source
COMMENT 'Repeated deliveries by hour.';
