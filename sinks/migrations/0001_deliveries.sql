-- What became of one delivery.
-- ReplacingMergeTree, the newest row of an id wins: read with FINAL, so that each counts once.
-- No PARTITION BY: one insert must become one part. An insert across the border of two partitions becomes two, which can land
-- apart, and the sink would resume after the later one.
CREATE TABLE IF NOT EXISTS ${database}.deliveries
(
    delivery_id String COMMENT 'As in the raw delivery.',
    received_at DateTime64(6, 'UTC') COMMENT 'As in the raw delivery.',
    tenant LowCardinality(String) COMMENT 'Owner of the source.',
    source LowCardinality(String) COMMENT 'Name of the source.',
    source_kind LowCardinality(String) COMMENT 'kyb-service or kyc-registration.',
    verdict LowCardinality(String) COMMENT 'new: made an event; duplicate: its event is known; quarantined: in the dead letters.',
    reason LowCardinality(Nullable(String)) COMMENT 'Why it was quarantined.',
    event_id Nullable(String) COMMENT 'The event it made or repeats; null when quarantined.',
    first_delivery_id Nullable(String) COMMENT 'The delivery that made the event; null when quarantined.',
    entity_key Nullable(String) COMMENT '<tenant>/<service_id> or <tenant>/<subject>.',
    case_id Nullable(String) COMMENT 'The case its event went to when it was made.',
    event_type LowCardinality(Nullable(String)) COMMENT 'The KYB type, or kyc_result.',
    violations Array(LowCardinality(String)) COMMENT 'Where the body breaks the provider''s document: <rule>:<field>.',
    body_size UInt64 COMMENT 'Bytes of the body as sent (inflated).',
    _topic LowCardinality(String) COMMENT 'Kafka topic the row came from.',
    _partition Int32 COMMENT 'Kafka partition the row came from.',
    _offset Int64 COMMENT 'Kafka offset the row came from; the sink resumes after the newest one.',
    _inserted_at DateTime64(6, 'UTC') DEFAULT now64(6) COMMENT 'When the row landed here, UTC: from then on it can be queried.'
)
ENGINE = ReplacingMergeTree
ORDER BY (tenant, delivery_id)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'What became of one delivery.';
