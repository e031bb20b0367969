-- How far the cases of a day came, as they stand now. (all) is about the case as a whole, each service about itself. A case
-- without a service_initiated is among cases, but not among initiated: a funnel begins with cases. completed, rejected, expired
-- and still_open add up to cases. Counts can be added up over days and tenants.
CREATE OR REPLACE VIEW ${database}.funnel_by_service
(
    day Date COMMENT 'Day the case was opened, UTC.',
    tenant LowCardinality(String) COMMENT 'Owner of the cases.',
    service String COMMENT 'KYB service; a case counts under each of its services, and once under (all).',
    cases UInt64 COMMENT 'Cases that name the service.',
    initiated UInt64 COMMENT 'Of these, cases in which it was initiated; (all): any service.',
    resolved UInt64 COMMENT 'Of these cases, those in which it is resolved; (all): kyb_status is resolved.',
    linked UInt64 COMMENT 'Of these cases, those linked to a person by registration or token.',
    kyc_received UInt64 COMMENT 'Of these cases, those with a KYC result.',
    kyc_final UInt64 COMMENT 'Of these cases, those whose kyc_status is success or permanent_rejection.',
    completed UInt64 COMMENT 'Of these cases, those with the outcome completed.',
    rejected UInt64 COMMENT 'Of these cases, those with the outcome rejected.',
    expired UInt64 COMMENT 'Of these cases, those with the outcome expired.',
    still_open UInt64 COMMENT 'Of these cases, those with the outcome open or awaiting_resubmission.'
)
AS SELECT
    day, tenant, service,
    count() AS cases,
    sum(was_initiated) AS initiated,
    sum(was_resolved) AS resolved,
    countIf(is_linked) AS linked,
    countIf(has_result) AS kyc_received,
    countIf(has_final) AS kyc_final,
    countIf(outcome = 'completed') AS completed,
    countIf(outcome = 'rejected') AS rejected,
    countIf(outcome = 'expired') AS expired,
    countIf(outcome IN ('open', 'awaiting_resubmission')) AS still_open
FROM (
    SELECT
        toDate(opened_at, 'UTC') AS day, tenant, outcome,
        linked_at IS NOT NULL AS is_linked, kyc_first_result_at IS NOT NULL AS has_result, kyc_final_at IS NOT NULL AS has_final,
        arrayPushFront(services.name, '(all)') AS named,
        arrayPushFront(arrayMap(one -> one IS NOT NULL, services.initiated_at), kyb_initiated_at IS NOT NULL) AS begun,
        arrayPushFront(arrayMap(one -> one IS NOT NULL, services.resolved_at), kyb_status = 'resolved') AS ended
    FROM ${database}.current_cases
)
ARRAY JOIN named AS service, begun AS was_initiated, ended AS was_resolved
GROUP BY day, tenant, service
COMMENT 'How far cases came, by day of opening, tenant and service.';
