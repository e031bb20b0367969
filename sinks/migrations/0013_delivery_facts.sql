-- What the views ask of deliveries, in order of time and as numbers. Derived from `deliveries`, as case_states is from `cases`.
-- Ids are hashes of 128 bits here: a third of the bytes, and quick to compare; an event's id is itself a hash of 122 bits, so two
-- are no likelier to be alike here than there. One delivery has one time of receipt; the newest landing wins. Read it with FINAL.
CREATE TABLE IF NOT EXISTS ${database}.delivery_facts
(
    tenant LowCardinality(String) COMMENT 'Owner of the source.',
    received_at DateTime64(6, 'UTC') COMMENT 'As in the raw delivery.',
    delivery UInt128 COMMENT 'SipHash of delivery_id.',
    source LowCardinality(String) COMMENT 'Name of the source.',
    source_kind LowCardinality(String) COMMENT 'kyb-service or kyc-registration.',
    verdict LowCardinality(String) COMMENT 'As in deliveries.',
    event UInt128 COMMENT 'SipHash of event_id; 0 when there is none.',
    _inserted_at DateTime64(6, 'UTC') COMMENT 'When the row landed in deliveries, UTC.'
)
ENGINE = ReplacingMergeTree(_inserted_at)
ORDER BY (tenant, received_at, delivery)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'What the views ask of deliveries, in order of time. Derived from deliveries.';

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.delivery_facts_feed TO ${database}.delivery_facts
AS SELECT
    tenant, received_at, reinterpretAsUInt128(sipHash128(delivery_id)) AS delivery, source, source_kind, verdict,
    if(event_id IS NULL, 0, reinterpretAsUInt128(sipHash128(assumeNotNull(event_id)))) AS event, _inserted_at
FROM ${database}.deliveries;

INSERT INTO ${database}.delivery_facts (tenant, received_at, delivery, source, source_kind, verdict, event, _inserted_at)
SELECT
    tenant, received_at, reinterpretAsUInt128(sipHash128(delivery_id)) AS delivery, source, source_kind, verdict,
    if(event_id IS NULL, 0, reinterpretAsUInt128(sipHash128(assumeNotNull(event_id)))) AS event, _inserted_at
FROM ${database}.deliveries
ORDER BY tenant, received_at
SETTINGS max_insert_threads = 1, max_bytes_before_external_sort = 1000000000;
