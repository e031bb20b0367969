-- What the views ask of events and of deliveries, in order of time and as numbers: in place of event_facts and delivery_facts, whose
-- keys were 36 characters of text and 128 bits. Every question reads these tables whole and with FINAL, which reads the whole key, so a
-- narrow key and quick codecs are what they are made for: T64 for times (a third smaller than plain, and as quick to read), none for
-- hashes (which no codec makes smaller), LZ4 for the rest (servers may compress larger parts by ZSTD, three times as slow to read).
-- Derived from `events` and `deliveries`, as case_states is from `cases`.

-- An event's id is as good as random, so that with FINAL `events` must compare every part with every other; here parts lie
-- one after another in time, and hardly any rows need comparing. One event has one time of receipt, so (tenant, received_at, event)
-- is as good a key as (tenant, event_id); the newest landing wins, as in `events`. Read it with FINAL.
CREATE TABLE IF NOT EXISTS ${database}.events_by_time
(
    tenant LowCardinality(String) COMMENT 'Owner of the source.' CODEC(LZ4),
    received_at DateTime64(6, 'UTC') COMMENT 'Receipt of the first delivery, UTC. The providers send no time of their own.' CODEC(T64),
    event UInt64 COMMENT 'SipHash of event_id.' CODEC(NONE),
    event_id String COMMENT 'Derived from fingerprint and first delivery.',
    source LowCardinality(String) COMMENT 'Name of the source.' CODEC(LZ4),
    case_id String COMMENT 'The case it went to when it was made; kyc:<subject> while no case claims the subject.' CODEC(LZ4),
    placement LowCardinality(String) COMMENT 'own (KYB), registered, path_token, remark_token, learned, unlinked, conflict or ambiguous.' CODEC(LZ4),
    type LowCardinality(String) COMMENT 'The KYB type, or kyc_result.' CODEC(LZ4),
    status LowCardinality(Nullable(String)) COMMENT 'KYB: pending or resolved; KYC: success, permanent_rejection, temporary_rejection; unknown values as sent.' CODEC(LZ4),
    services Array(LowCardinality(String)) COMMENT 'KYB services the event covers.' CODEC(LZ4),
    subject Nullable(String) COMMENT 'KYC: pseudonym of merchant, sub-merchant and user number.',
    person UInt64 COMMENT 'SipHash of subject; 0 when there is none.' CODEC(NONE),
    kyc_level LowCardinality(Nullable(String)) COMMENT 'KYC, as text: the document allows number or text.' CODEC(LZ4),
    fail_reasons Array(LowCardinality(String)) COMMENT 'KYC: code-like values of kycFailJson; anything else there counts as `other`.' CODEC(LZ4),
    unknown_fields Array(String) COMMENT 'Names of fields the document does not know; their values stay in the raw delivery.' CODEC(LZ4),
    violations Array(LowCardinality(String)) COMMENT 'As in the delivery.' CODEC(LZ4),
    _inserted_at DateTime64(6, 'UTC') COMMENT 'When the row landed in events, UTC; of one event the newest landing counts.' CODEC(T64),
    INDEX by_case case_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(_inserted_at)
ORDER BY (tenant, received_at, event)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'What the views ask of events, in order of time. Derived from events.';

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.events_by_time_feed TO ${database}.events_by_time
AS SELECT
    tenant, received_at, sipHash64(event_id) AS event, event_id, source, case_id, placement,
    type, status, services, subject, if(subject IS NULL, 0, sipHash64(assumeNotNull(subject))) AS person, kyc_level, fail_reasons,
    unknown_fields, violations, _inserted_at
FROM ${database}.events;

INSERT INTO ${database}.events_by_time (
    tenant, received_at, event, event_id, source, case_id, placement, type, status, services, subject, person, kyc_level,
    fail_reasons, unknown_fields, violations, _inserted_at
)
SELECT
    tenant, received_at, sipHash64(event_id) AS event, event_id, source, case_id, placement,
    type, status, services, subject, if(subject IS NULL, 0, sipHash64(assumeNotNull(subject))) AS person, kyc_level, fail_reasons,
    unknown_fields, violations, _inserted_at
FROM ${database}.events
ORDER BY tenant, received_at -- so that these parts, too, lie one after another; what does not fit into 1 GB is sorted on disk
SETTINGS max_insert_threads = 1, max_bytes_before_external_sort = 1000000000;

-- Hashes of 64 bits are enough here: of ten million events of one tenant, that any two are taken for one has a chance of 3 in a million.
CREATE TABLE IF NOT EXISTS ${database}.deliveries_by_time
(
    tenant LowCardinality(String) COMMENT 'Owner of the source.' CODEC(LZ4),
    received_at DateTime64(6, 'UTC') COMMENT 'As in the raw delivery.' CODEC(T64),
    delivery UInt64 COMMENT 'SipHash of delivery_id.' CODEC(NONE),
    series UInt64 COMMENT 'Hash of tenant and source: to group by, several times as quick as by the texts.' CODEC(LZ4),
    source LowCardinality(String) COMMENT 'Name of the source.' CODEC(LZ4),
    source_kind LowCardinality(String) COMMENT 'kyb-service or kyc-registration.' CODEC(LZ4),
    verdict LowCardinality(String) COMMENT 'As in deliveries.' CODEC(LZ4),
    event UInt64 COMMENT 'SipHash of event_id; 0 when there is none.' CODEC(NONE),
    _inserted_at DateTime64(6, 'UTC') COMMENT 'When the row landed in deliveries, UTC.' CODEC(T64)
)
ENGINE = ReplacingMergeTree(_inserted_at)
ORDER BY (tenant, received_at, delivery)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'What the views ask of deliveries, in order of time. Derived from deliveries.';

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.deliveries_by_time_feed TO ${database}.deliveries_by_time
AS SELECT
    tenant, received_at, sipHash64(delivery_id) AS delivery, cityHash64(tenant, source) AS series, source, source_kind, verdict,
    if(event_id IS NULL, 0, sipHash64(assumeNotNull(event_id))) AS event, _inserted_at
FROM ${database}.deliveries;

INSERT INTO ${database}.deliveries_by_time (tenant, received_at, delivery, series, source, source_kind, verdict, event, _inserted_at)
SELECT
    tenant, received_at, sipHash64(delivery_id) AS delivery, cityHash64(tenant, source) AS series, source, source_kind, verdict,
    if(event_id IS NULL, 0, sipHash64(assumeNotNull(event_id))) AS event, _inserted_at
FROM ${database}.deliveries
ORDER BY tenant, received_at
SETTINGS max_insert_threads = 1, max_bytes_before_external_sort = 1000000000;

DROP VIEW IF EXISTS ${database}.event_facts_feed;
DROP TABLE IF EXISTS ${database}.event_facts;
DROP VIEW IF EXISTS ${database}.delivery_facts_feed;
DROP TABLE IF EXISTS ${database}.delivery_facts;
