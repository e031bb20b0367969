-- What happened in each case, for process mining: an event log with the attribute names of XES (IEEE 1849). One row for each
-- service that a KYB event covers, one for each KYC result and for any other event; and rows of our own for what follows from
-- them: linked, completed, rejected, expired. No personal data: persons are pseudonyms.
-- Events of a provisional case are under the case that it was merged into. Sort by case:concept:name, time:timestamp and
-- tie_rank. Two tenants can have a case of the same name: export one tenant, or take case:tenant along.
CREATE OR REPLACE VIEW ${database}.event_log
(
    `case:concept:name` String COMMENT 'The case.',
    `concept:name` String COMMENT 'The activity: the KYB service; kyc_result and its status; the type of any other event; linked, completed, rejected or expired of the case.',
    `time:timestamp` DateTime64(6, 'UTC') COMMENT 'Receipt; of linked the first link by registration or token, of expired the deadline.',
    `lifecycle:transition` LowCardinality(String) COMMENT 'start: a service was initiated. complete: it was resolved, or the activity is a moment. ate_abort: the case expired. unknown: the event says neither.',
    `org:resource` LowCardinality(String) COMMENT 'Who did it: the source of the event; kyb-stream for linked, completed, rejected and expired.',
    `case:tenant` LowCardinality(String) COMMENT 'Owner of the case.',
    tie_rank UInt8 COMMENT 'Order of rows of one case and time, as the events count in the case: 0 linked, 1 initiations, 2 other KYB events, 3 purchases of documents, 4 resolutions, 5 KYC results without a known status, 6 temporary rejections, 7 successes, 8 permanent rejections, 9 the end of the case.',
    event_id String COMMENT 'As in events; empty for linked, completed, rejected and expired.',
    type LowCardinality(String) COMMENT 'As in events; case for linked, completed, rejected and expired.',
    status LowCardinality(String) COMMENT 'As in events; empty when there is none.',
    subject String COMMENT 'KYC: pseudonym of the person; empty otherwise.',
    kyc_level LowCardinality(String) COMMENT 'KYC; empty otherwise.',
    placement LowCardinality(String) COMMENT 'As in events; empty for linked, completed, rejected and expired.'
)
AS WITH happened AS (
    SELECT
        tenant, case_id, received_at, source, event_id, placement,
        toString(type) AS event_type,
        ifNull(toString(status), '') AS event_status,
        ifNull(subject, '') AS person,
        ifNull(toString(kyc_level), '') AS level,
        event_type IN ('service_initiated', 'service_resolved', 'document_purchase_request') AND notEmpty(services) AS of_services,
        arrayJoin(multiIf(
            of_services, arrayMap(one -> toString(one), services),
            event_type = 'kyc_result', [concat(
                'kyc_result ',
                if(event_status IN ('success', 'permanent_rejection', 'temporary_rejection'), event_status, 'unknown')
            )],
            [event_type]
        )) AS activity,
        multiIf(
            event_type IN ('kyc_result', 'ongoing_aml_webhook'), 'complete',
            event_type = 'service_initiated', 'start',
            event_type = 'service_resolved' AND event_status = 'resolved', 'complete',
            event_type = 'document_purchase_request' AND event_status = 'resolved' AND activity = 'documents', 'complete',
            'unknown'
        ) AS transition,
        -- As streams/event_order.py: what the events say decides, not their ids.
        toUInt8(multiIf(
            event_type = 'service_initiated', 1,
            event_type = 'document_purchase_request', 3,
            event_type = 'service_resolved', 4,
            event_type != 'kyc_result', 2,
            event_status = 'temporary_rejection', 6,
            event_status = 'success', 7,
            event_status = 'permanent_rejection', 8,
            5
        )) AS rank
    FROM ${database}.events_by_time FINAL
),
merged AS (
    SELECT tenant, case_id, assumeNotNull(merged_into) AS merged_into
    FROM ${database}.case_states FINAL
    WHERE outcome = 'merged' AND merged_into IS NOT NULL
)
SELECT
    case_id AS `case:concept:name`,
    activity AS `concept:name`,
    received_at AS `time:timestamp`,
    transition AS `lifecycle:transition`,
    source AS `org:resource`,
    tenant AS `case:tenant`,
    rank AS tie_rank,
    event_id,
    event_type AS type,
    event_status AS status,
    person AS subject,
    level AS kyc_level,
    placement
FROM happened
-- Only provisional cases are ever merged into another, and most events are of none: these need no look at merged.
WHERE NOT startsWith(case_id, 'kyc:') OR (tenant, case_id) NOT IN (SELECT tenant, case_id FROM merged)
UNION ALL
SELECT
    merged.merged_into,
    happened.activity, happened.received_at, happened.transition, happened.source, happened.tenant, happened.rank,
    happened.event_id, happened.event_type, happened.event_status, happened.person, happened.level, happened.placement
FROM happened
INNER JOIN merged ON merged.tenant = happened.tenant AND merged.case_id = happened.case_id
UNION ALL
SELECT
    case_id, step.1, assumeNotNull(step.2), step.3, 'kyb-stream', tenant, step.4, '', 'case', '', '', '', ''
FROM (
    SELECT
        tenant, case_id,
        arrayJoin([
            ('linked', linked_at, 'complete', 0),
            (toString(outcome), closed_at, 'complete', 9),
            ('expired', if(outcome = 'expired', toNullable(deadline_at), NULL), 'ate_abort', 9)
        ]) AS step
    FROM ${database}.current_cases
)
WHERE step.2 IS NOT NULL
COMMENT 'What happened in each case, with the attribute names of XES.';
