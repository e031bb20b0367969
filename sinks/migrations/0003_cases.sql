-- A case after one more event: a snapshot.
-- ReplacingMergeTree, the newest row of an id wins: read with FINAL, so that each counts once.
-- No PARTITION BY: one insert must become one part. An insert across the border of two partitions becomes two, which can land
-- apart, and the sink would resume after the later one.
CREATE TABLE IF NOT EXISTS ${database}.cases
(
    tenant LowCardinality(String) COMMENT 'Owner of the case.',
    case_id String COMMENT 'KYB service_id, or kyc:<subject>.',
    version UInt32 COMMENT 'Number of distinct events in the case.',
    match_state LowCardinality(String) COMMENT 'Whether both halves are there.',
    kyb_status LowCardinality(String) COMMENT 'resolved is not approved: the verdict is not in the webhook.',
    kyc_status LowCardinality(String) COMMENT 'The worst of the subjects.',
    outcome LowCardinality(String) COMMENT 'Where the case stands.',
    merged_into Nullable(String) COMMENT 'Of a merged provisional case.',
    services Array(Tuple(
        name LowCardinality(String),
        initiated_at Nullable(DateTime64(6, 'UTC')),
        resolved_at Nullable(DateTime64(6, 'UTC'))
    )) COMMENT 'KYB services of the case, by name: name, first initiation, latest resolution (null while it is open).',
    subjects Array(Tuple(
        subject String,
        level LowCardinality(Nullable(String)),
        type LowCardinality(Nullable(String)),
        status LowCardinality(String),
        attempts UInt32
    )) COMMENT 'KYC subjects of the case, by pseudonym: level and type of the result that counts, status (pending, success, temporary_rejection, permanent_rejection or unknown), attempts (distinct results received).',
    expected_subjects Nullable(UInt32) COMMENT 'The newest number registered.',
    opened_at DateTime64(6, 'UTC') COMMENT 'When the case began.',
    opened_at_source LowCardinality(String) COMMENT 'Where opened_at comes from.',
    kyb_initiated_at Nullable(DateTime64(6, 'UTC')) COMMENT 'First initiation.',
    kyb_resolved_at Nullable(DateTime64(6, 'UTC')) COMMENT 'When kyb_status became resolved; null when it is not.',
    kyc_first_result_at Nullable(DateTime64(6, 'UTC')) COMMENT 'First KYC result.',
    kyc_final_at Nullable(DateTime64(6, 'UTC')) COMMENT 'When kyc_status became success or permanent_rejection; null when it is neither.',
    linked_at Nullable(DateTime64(6, 'UTC')) COMMENT 'First link by registration or token.',
    closed_at Nullable(DateTime64(6, 'UTC')) COMMENT 'Receipt of the event that completed or rejected the case; null when it is open again.',
    deadline_at DateTime64(6, 'UTC') COMMENT 'When the case expires if it is still open.',
    updated_at DateTime64(6, 'UTC') COMMENT 'Receipt of the newest event.',
    placements Array(LowCardinality(String)) COMMENT 'The rules by which KYC results came to this case.',
    resubmissions UInt32 COMMENT 'Results of a subject that follow a temporary rejection.',
    aml_alerts UInt32 COMMENT 'Ongoing AML events.',
    anomalies Array(LowCardinality(String)) COMMENT 'What is odd about the case.',
    _topic LowCardinality(String) COMMENT 'Kafka topic the row came from.',
    _partition Int32 COMMENT 'Kafka partition the row came from.',
    _offset Int64 COMMENT 'Kafka offset the row came from; the sink resumes after the newest one.',
    _inserted_at DateTime64(6, 'UTC') DEFAULT now64(6) COMMENT 'When the row landed here, UTC: from then on it can be queried.'
)
ENGINE = ReplacingMergeTree
ORDER BY (tenant, case_id, version)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'A case after one more event: a snapshot.';
