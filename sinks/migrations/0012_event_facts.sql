-- What the views ask of events, in order of time. Derived from `events`, as case_states is from `cases`.
-- An event's id is as good as random, so that with FINAL `events` must compare every part with every other; here parts lie
-- one after another in time, and hardly any rows need comparing. One event has one time of receipt, so (tenant, received_at, event_id)
-- is as good a key as (tenant, event_id); the newest landing wins, as in `events`. Read it with FINAL.
CREATE TABLE IF NOT EXISTS ${database}.event_facts
(
    event_id String COMMENT 'Derived from fingerprint and first delivery.',
    received_at DateTime64(6, 'UTC') COMMENT 'Receipt of that delivery, UTC. The providers send no time of their own.',
    tenant LowCardinality(String) COMMENT 'Owner of the source.',
    source LowCardinality(String) COMMENT 'Name of the source.',
    case_id String COMMENT 'The case it went to when it was made; kyc:<subject> while no case claims the subject.',
    placement LowCardinality(String) COMMENT 'own (KYB), registered, path_token, remark_token, learned, unlinked, conflict or ambiguous.',
    type LowCardinality(String) COMMENT 'The KYB type, or kyc_result.',
    status LowCardinality(Nullable(String)) COMMENT 'KYB: pending or resolved; KYC: success, permanent_rejection, temporary_rejection; unknown values as sent.',
    services Array(LowCardinality(String)) COMMENT 'KYB services the event covers.',
    subject Nullable(String) COMMENT 'KYC: pseudonym of merchant, sub-merchant and user number.',
    kyc_level LowCardinality(Nullable(String)) COMMENT 'KYC, as text: the document allows number or text.',
    fail_reasons Array(LowCardinality(String)) COMMENT 'KYC: code-like values of kycFailJson; anything else there counts as `other`.',
    unknown_fields Array(String) COMMENT 'Names of fields the document does not know; their values stay in the raw delivery.',
    violations Array(LowCardinality(String)) COMMENT 'As in the delivery.',
    _inserted_at DateTime64(6, 'UTC') COMMENT 'When the row landed in events, UTC; of one event the newest landing counts.',
    INDEX by_case case_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(_inserted_at)
ORDER BY (tenant, received_at, event_id)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'What the views ask of events, in order of time. Derived from events.';

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.event_facts_feed TO ${database}.event_facts
AS SELECT
    event_id, received_at, tenant, source, case_id, placement, type, status, services, subject, kyc_level, fail_reasons,
    unknown_fields, violations, _inserted_at
FROM ${database}.events;

INSERT INTO ${database}.event_facts (
    event_id, received_at, tenant, source, case_id, placement, type, status, services, subject, kyc_level, fail_reasons,
    unknown_fields, violations, _inserted_at
)
SELECT
    event_id, received_at, tenant, source, case_id, placement, type, status, services, subject, kyc_level, fail_reasons,
    unknown_fields, violations, _inserted_at
FROM ${database}.events
ORDER BY tenant, received_at -- so that these parts, too, lie one after another; what does not fit into 1 GB is sorted on disk
SETTINGS max_insert_threads = 1, max_bytes_before_external_sort = 1000000000;
