-- A deduplicated, normalised webhook without personal data.
-- ReplacingMergeTree, the newest row of an id wins: read with FINAL, so that each counts once.
-- No PARTITION BY: one insert must become one part. An insert across the border of two partitions becomes two, which can land
-- apart, and the sink would resume after the later one.
CREATE TABLE IF NOT EXISTS ${database}.events
(
    event_id String COMMENT 'Derived from fingerprint and first delivery.',
    delivery_id String COMMENT 'The delivery that made it.',
    received_at DateTime64(6, 'UTC') COMMENT 'Receipt of that delivery, UTC. The providers send no time of their own.',
    tenant LowCardinality(String) COMMENT 'Owner of the source.',
    source LowCardinality(String) COMMENT 'Name of the source.',
    source_kind LowCardinality(String) COMMENT 'kyb-service or kyc-registration.',
    entity_key String COMMENT '<tenant>/<service_id> or <tenant>/<subject>.',
    case_id String COMMENT 'The case it went to when it was made; kyc:<subject> while no case claims the subject.',
    placement LowCardinality(String) COMMENT 'own (KYB), registered, path_token, remark_token, learned, unlinked, conflict or ambiguous.',
    type LowCardinality(String) COMMENT 'The KYB type, or kyc_result.',
    status LowCardinality(Nullable(String)) COMMENT 'KYB: pending or resolved; KYC: success, permanent_rejection, temporary_rejection; unknown values as sent.',
    services Array(LowCardinality(String)) COMMENT 'KYB services the event covers.',
    service_id Nullable(String) COMMENT 'KYB: the case at the provider.',
    kyb_backoffice_id Nullable(String) COMMENT 'KYB.',
    link_kind LowCardinality(Nullable(String)) COMMENT 'KYB: cases-detail, aml-result, get-file or other; the link itself is not kept.',
    link_service_id Nullable(String) COMMENT 'KYB: the service_id in the link, which can differ from the body''s.',
    link_company_id Nullable(String) COMMENT 'KYB: the company_id in the link; looks like the account, never joined on.',
    id_embedded_at Nullable(DateTime64(6, 'UTC')) COMMENT 'KYB: the creation time that service_id seems to embed, if plausible.',
    kyb_request_from LowCardinality(Nullable(String)) COMMENT 'KYB; null when absent or null, see null_fields.',
    questionnaire_request_id Nullable(String) COMMENT 'KYB.',
    kyc_request_id Nullable(String) COMMENT 'KYB.',
    aml_request_id Nullable(String) COMMENT 'KYB.',
    kyb_request_id Nullable(String) COMMENT 'KYB.',
    document_request_id Nullable(String) COMMENT 'KYB.',
    uid Nullable(String) COMMENT 'KYB.',
    search_type LowCardinality(Nullable(String)) COMMENT 'KYB.',
    registration_number Nullable(String) COMMENT 'KYB: the company''s number in its register.',
    document_name Nullable(String) COMMENT 'KYB.',
    document_found Nullable(Bool) COMMENT 'KYB.',
    subject Nullable(String) COMMENT 'KYC: pseudonym of merchant, sub-merchant and user number.',
    kyc_type LowCardinality(Nullable(String)) COMMENT 'KYC.',
    kyc_level LowCardinality(Nullable(String)) COMMENT 'KYC, as text: the document allows number or text.',
    kyc_platform LowCardinality(Nullable(String)) COMMENT 'KYC, undocumented.',
    country LowCardinality(Nullable(String)) COMMENT 'KYC.',
    id_doc_type LowCardinality(Nullable(String)) COMMENT 'KYC, coded.',
    merchant_no LowCardinality(Nullable(String)) COMMENT 'KYC.',
    sub_merchant_no LowCardinality(Nullable(String)) COMMENT 'KYC.',
    fail_reasons Array(LowCardinality(String)) COMMENT 'KYC: code-like values of kycFailJson; anything else there counts as `other`.',
    email_pseudonym Nullable(String) COMMENT 'KYC.',
    number_pseudonym Nullable(String) COMMENT 'KYC: of the id document''s number.',
    user_num_pseudonym Nullable(String) COMMENT 'KYC: of the user-center number.',
    null_fields Array(LowCardinality(String)) COMMENT 'Documented fields that were present and null.',
    unknown_fields Array(String) COMMENT 'Names of fields the document does not know; their values stay in the raw delivery.',
    violations Array(LowCardinality(String)) COMMENT 'As in the delivery.',
    _topic LowCardinality(String) COMMENT 'Kafka topic the row came from.',
    _partition Int32 COMMENT 'Kafka partition the row came from.',
    _offset Int64 COMMENT 'Kafka offset the row came from; the sink resumes after the newest one.',
    _inserted_at DateTime64(6, 'UTC') DEFAULT now64(6) COMMENT 'When the row landed here, UTC: from then on it can be queried.'
)
ENGINE = ReplacingMergeTree
ORDER BY (tenant, event_id)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'A deduplicated, normalised webhook without personal data.';
