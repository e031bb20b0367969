-- That an operator had records processed again: who, when, and what.
-- ReplacingMergeTree, the newest row of an id wins: read with FINAL, so that each counts once.
-- No PARTITION BY: one insert must become one part. An insert across the border of two partitions becomes two, which can land
-- apart, and the sink would resume after the later one.
CREATE TABLE IF NOT EXISTS ${database}.replays
(
    replay_id String COMMENT 'Drawn when the replay began; one for each dead letter, one for a range.',
    replayed_at DateTime64(6, 'UTC') COMMENT 'When it began, UTC, by the operator''s clock.',
    replayed_by String COMMENT 'Who did it: --by, else the operating system''s user.',
    kind LowCardinality(String) COMMENT 'dead_letter: `dlq replay`, one dead letter; range: `replay`, the raw deliveries of a time range.',
    origin_topic LowCardinality(String) COMMENT 'The topic that the records were written to again.',
    tenant LowCardinality(String) COMMENT 'Of the dead letter, or the tenant that the range was confined to; empty otherwise.',
    source LowCardinality(Nullable(String)) COMMENT 'Of the dead letter, or the source that the range was confined to.',
    dead_letter_id Nullable(String) COMMENT 'The dead letter that was replayed.',
    first_dead_letter_id Nullable(String) COMMENT 'The dead letter with which the record failed for the first time.',
    delivery_id Nullable(String) COMMENT 'Of the dead letter, if it has one.',
    attempt Nullable(UInt32) COMMENT 'How many times the dead letter''s record has been replayed with this one.',
    rekeyed Bool COMMENT 'Whether the record was given another key (--rekey).',
    range_from Nullable(DateTime64(6, 'UTC')) COMMENT 'Start of the range, by receipt.',
    range_to Nullable(DateTime64(6, 'UTC')) COMMENT 'End of the range, by receipt; not part of it.',
    records Nullable(UInt64) COMMENT 'How many records were written; null while a range is under way, or when it was interrupted.',
    _topic LowCardinality(String) COMMENT 'Kafka topic the row came from.',
    _partition Int32 COMMENT 'Kafka partition the row came from.',
    _offset Int64 COMMENT 'Kafka offset the row came from; the sink resumes after the newest one.',
    _inserted_at DateTime64(6, 'UTC') DEFAULT now64(6) COMMENT 'When the row landed here, UTC: from then on it can be queried.'
)
ENGINE = ReplacingMergeTree
ORDER BY (tenant, replay_id)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'That an operator had records processed again: who, when, and what.';
