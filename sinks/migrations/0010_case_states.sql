-- Each case as it stands, so that a question about cases reads each once and not all its versions. Derived from `cases`:
-- ClickHouse feeds it with each insert (case_states_feed), and what was there before is fed once, below.
-- The newest version wins, whatever comes late or twice; of a version that landed twice the newest landing, as in `cases`. So a row
-- may be fed again at any time. Read it with FINAL.
CREATE TABLE IF NOT EXISTS ${database}.case_states
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
    _inserted_at DateTime64(6, 'UTC') COMMENT 'When this version landed in cases, UTC.',
    rank UInt128 COMMENT 'The version, and of rows of one version the landing: the row with the greatest counts, in whatever order rows come.'
)
ENGINE = ReplacingMergeTree(rank)
ORDER BY (tenant, case_id)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Each case as it stands, merged ones too: what current_cases reads. Derived from cases.';

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.case_states_feed TO ${database}.case_states
AS SELECT
    tenant, case_id, version, match_state, kyb_status, kyc_status, outcome, merged_into, services, subjects,
    expected_subjects, opened_at, opened_at_source, kyb_initiated_at, kyb_resolved_at, kyc_first_result_at, kyc_final_at,
    linked_at, closed_at, deadline_at, updated_at, placements, resubmissions, aml_alerts, anomalies, _inserted_at,
    bitShiftLeft(toUInt128(version), 64) + toUInt128(toUnixTimestamp64Micro(_inserted_at)) AS rank
FROM ${database}.cases;

INSERT INTO ${database}.case_states (
    tenant, case_id, version, match_state, kyb_status, kyc_status, outcome, merged_into, services, subjects,
    expected_subjects, opened_at, opened_at_source, kyb_initiated_at, kyb_resolved_at, kyc_first_result_at, kyc_final_at,
    linked_at, closed_at, deadline_at, updated_at, placements, resubmissions, aml_alerts, anomalies, _inserted_at, rank
)
SELECT
    tenant, case_id, version, match_state, kyb_status, kyc_status, outcome, merged_into, services, subjects,
    expected_subjects, opened_at, opened_at_source, kyb_initiated_at, kyb_resolved_at, kyc_first_result_at, kyc_final_at,
    linked_at, closed_at, deadline_at, updated_at, placements, resubmissions, aml_alerts, anomalies, _inserted_at,
    bitShiftLeft(toUInt128(version), 64) + toUInt128(toUnixTimestamp64Micro(_inserted_at)) AS rank
FROM ${database}.cases
SETTINGS max_insert_threads = 1;
