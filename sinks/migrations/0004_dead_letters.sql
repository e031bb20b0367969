-- A record that could not be processed. What it was (key, headers, value) can hold personal data and stays in the topic.
-- ReplacingMergeTree, the newest row of an id wins: read with FINAL, so that each counts once.
-- No PARTITION BY: one insert must become one part. An insert across the border of two partitions becomes two, which can land
-- apart, and the sink would resume after the later one.
CREATE TABLE IF NOT EXISTS ${database}.dead_letters
(
    dead_letter_id String COMMENT 'Derived from stage, reason and the delivery, or the record''s bytes.',
    delivery_id Nullable(String) COMMENT 'If it could be read.',
    received_at DateTime64(6, 'UTC') COMMENT 'Of the delivery if it could be read, else the Kafka timestamp.',
    tenant LowCardinality(String) COMMENT 'If it could be read; empty otherwise.',
    source LowCardinality(Nullable(String)) COMMENT 'If it could be read.',
    stage LowCardinality(String) COMMENT 'Where it failed: intake, links, cases or sink.',
    reason LowCardinality(String) COMMENT 'A code: docs/reference/topics.md lists them.',
    detail Nullable(String) COMMENT 'More about it, without personal data.',
    origin_topic LowCardinality(String) COMMENT 'Where the record came from.',
    body_size UInt64 COMMENT 'Bytes of the webhook''s body if it could be read, else of the value.',
    _topic LowCardinality(String) COMMENT 'Kafka topic the row came from.',
    _partition Int32 COMMENT 'Kafka partition the row came from.',
    _offset Int64 COMMENT 'Kafka offset the row came from; the sink resumes after the newest one.',
    _inserted_at DateTime64(6, 'UTC') DEFAULT now64(6) COMMENT 'When the row landed here, UTC: from then on it can be queried.'
)
ENGINE = ReplacingMergeTree
ORDER BY (tenant, dead_letter_id)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'A record that could not be processed. What it was (key, headers, value) can hold personal data and stays in the topic.';
