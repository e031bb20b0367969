-- What the ingress turned away in one minute for one reason.
-- ReplacingMergeTree, the newest row of an id wins: read with FINAL, so that each counts once.
-- No PARTITION BY: one insert must become one part. An insert across the border of two partitions becomes two, which can land
-- apart, and the sink would resume after the later one.
CREATE TABLE IF NOT EXISTS ${database}.rejections
(
    rejection_id String COMMENT 'Derived from ingress, source, reason and minute.',
    minute DateTime64(6, 'UTC') COMMENT 'Start of the minute, UTC.',
    tenant LowCardinality(String) COMMENT 'Owner of the source; empty when the source is unknown.',
    source LowCardinality(String) COMMENT 'Name of the source; unknown when there is none of that name.',
    reason LowCardinality(String) COMMENT 'A code: docs/reference/http.md lists them.',
    count UInt64 COMMENT 'Requests turned away.',
    ingress LowCardinality(String) COMMENT 'Which ingress process counted.',
    _topic LowCardinality(String) COMMENT 'Kafka topic the row came from.',
    _partition Int32 COMMENT 'Kafka partition the row came from.',
    _offset Int64 COMMENT 'Kafka offset the row came from; the sink resumes after the newest one.',
    _inserted_at DateTime64(6, 'UTC') DEFAULT now64(6) COMMENT 'When the row landed here, UTC: from then on it can be queried.'
)
ENGINE = ReplacingMergeTree
ORDER BY (tenant, rejection_id)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'What the ingress turned away in one minute for one reason.';
