-- Each case as it stands: the newest version of it. Cases that were merged into another one are left out.
-- From case_states, which ClickHouse keeps beside cases: to find the newest of all versions anew for each question takes seconds.
CREATE OR REPLACE VIEW ${database}.current_cases
(
    tenant LowCardinality(String) COMMENT 'Owner of the case.',
    case_id String COMMENT 'KYB service_id, or kyc:<subject> while no case claims the subject.',
    version UInt32 COMMENT 'Number of distinct events in the case.',
    match_state LowCardinality(String) COMMENT 'kyb_only, kyc_only, matched, ambiguous or conflict.',
    kyb_status LowCardinality(String) COMMENT 'none, pending or resolved. resolved says that the service ended, not how.',
    kyc_status LowCardinality(String) COMMENT 'The worst of the subjects: none, pending, success, temporary_rejection or permanent_rejection.',
    outcome LowCardinality(String) COMMENT 'open, completed, rejected, awaiting_resubmission or expired.',
    services Array(Tuple(name LowCardinality(String), initiated_at Nullable(DateTime64(6, 'UTC')), resolved_at Nullable(DateTime64(6, 'UTC')))) COMMENT 'KYB services of the case, by name.',
    subjects Array(Tuple(subject String, level LowCardinality(Nullable(String)), type LowCardinality(Nullable(String)), status LowCardinality(String), attempts UInt32)) COMMENT 'KYC subjects of the case, by pseudonym.',
    expected_subjects Nullable(UInt32) COMMENT 'How many subjects were registered; null when nobody said.',
    opened_at DateTime64(6, 'UTC') COMMENT 'When the case began.',
    opened_at_source LowCardinality(String) COMMENT 'Where opened_at comes from: event, link, id_embedded or first_receipt.',
    kyb_initiated_at Nullable(DateTime64(6, 'UTC')) COMMENT 'First initiation.',
    kyb_resolved_at Nullable(DateTime64(6, 'UTC')) COMMENT 'When kyb_status became resolved; null when it is not.',
    kyc_first_result_at Nullable(DateTime64(6, 'UTC')) COMMENT 'Receipt of the first KYC result.',
    kyc_final_at Nullable(DateTime64(6, 'UTC')) COMMENT 'When kyc_status became success or permanent_rejection; null when it is neither.',
    linked_at Nullable(DateTime64(6, 'UTC')) COMMENT 'First link by registration or token.',
    closed_at Nullable(DateTime64(6, 'UTC')) COMMENT 'Receipt of the event that completed or rejected the case; null while it is open.',
    deadline_at DateTime64(6, 'UTC') COMMENT 'When the case expires if it is still open.',
    updated_at DateTime64(6, 'UTC') COMMENT 'Receipt of the newest event.',
    placements Array(LowCardinality(String)) COMMENT 'The rules by which KYC results came to this case.',
    resubmissions UInt32 COMMENT 'Results of a subject that follow a temporary rejection.',
    aml_alerts UInt32 COMMENT 'Ongoing AML events.',
    anomalies Array(LowCardinality(String)) COMMENT 'What is odd about the case.',
    _inserted_at DateTime64(6, 'UTC') COMMENT 'When this version landed here, UTC.'
)
AS SELECT
    tenant, case_id, version, match_state, kyb_status, kyc_status, outcome, services, subjects, expected_subjects,
    opened_at, opened_at_source, kyb_initiated_at, kyb_resolved_at, kyc_first_result_at, kyc_final_at, linked_at,
    closed_at, deadline_at, updated_at, placements, resubmissions, aml_alerts, anomalies, _inserted_at
FROM ${database}.case_states FINAL
WHERE outcome != 'merged'
COMMENT 'Each case as it stands; merged ones left out.';
