-- How well the two halves find each other. The rules count cases; a case whose results came by two rules counts under both.
CREATE OR REPLACE VIEW ${database}.match_quality
(
    tenant LowCardinality(String) COMMENT 'Owner of the cases.',
    match_state LowCardinality(String) COMMENT 'kyb_only, kyc_only, matched, ambiguous or conflict.',
    outcome LowCardinality(String) COMMENT 'open, completed, rejected, awaiting_resubmission or expired.',
    cases UInt64 COMMENT 'Cases as they stand now.',
    by_registered UInt64 COMMENT 'Of these, cases with a KYC result placed by a registered link.',
    by_path_token UInt64 COMMENT 'By the case token in the callback path.',
    by_remark_token UInt64 COMMENT 'By the case token in the remark.',
    by_learned UInt64 COMMENT 'By a link that the subject had before.',
    by_unlinked UInt64 COMMENT 'With a KYC result that no case claims.',
    by_conflict UInt64 COMMENT 'With a KYC result whose path token and remark token name different cases.',
    by_ambiguous UInt64 COMMENT 'With a KYC result whose subject registered links claim for several cases.',
    with_anomalies UInt64 COMMENT 'Cases with anything odd about them.',
    linked UInt64 COMMENT 'Cases linked by registration or token.',
    time_to_link_p50_seconds Nullable(Float64) COMMENT 'Opening to first link, of linked cases whose opening is not just embedded in an id: median; null when there are none.',
    time_to_link_p90_seconds Nullable(Float64) COMMENT 'The same, 90 % took no longer.',
    time_to_link_p95_seconds Nullable(Float64) COMMENT 'The same, 95 % took no longer.',
    time_to_link_p99_seconds Nullable(Float64) COMMENT 'The same, 99 % took no longer.'
)
AS SELECT
    tenant, match_state, outcome,
    count() AS cases,
    countIf(has(placements, 'registered')) AS by_registered,
    countIf(has(placements, 'path_token')) AS by_path_token,
    countIf(has(placements, 'remark_token')) AS by_remark_token,
    countIf(has(placements, 'learned')) AS by_learned,
    countIf(has(placements, 'unlinked')) AS by_unlinked,
    countIf(has(placements, 'conflict')) AS by_conflict,
    countIf(has(placements, 'ambiguous')) AS by_ambiguous,
    countIf(notEmpty(anomalies)) AS with_anomalies,
    count(linked_at) AS linked,
    round(quantileExactInclusiveOrNull(0.5)(link_seconds), 6) AS time_to_link_p50_seconds,
    round(quantileExactInclusiveOrNull(0.9)(link_seconds), 6) AS time_to_link_p90_seconds,
    round(quantileExactInclusiveOrNull(0.95)(link_seconds), 6) AS time_to_link_p95_seconds,
    round(quantileExactInclusiveOrNull(0.99)(link_seconds), 6) AS time_to_link_p99_seconds
FROM (
    SELECT
        tenant, match_state, outcome, placements, anomalies, linked_at,
        if(opened_at_source = 'id_embedded', NULL, dateDiff('microsecond', opened_at, linked_at) / 1e6) AS link_seconds
    FROM ${database}.current_cases
)
GROUP BY tenant, match_state, outcome
COMMENT 'Cases by match state and outcome, the rules that placed their KYC results, and the time to the link.';
