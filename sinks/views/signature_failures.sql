-- Requests that did not prove who sent them: a signature that is missing, malformed, too old or wrong, or a wrong path token
-- (which is all there is with the scheme none). Beside them, what was accepted: failures alone are somebody guessing, failures
-- beside accepted ones may be a key under rotation, failures instead of accepted ones a key that was changed on one side.
CREATE OR REPLACE VIEW ${database}.signature_failures
(
    day Date COMMENT 'UTC.',
    tenant LowCardinality(String) COMMENT 'Owner of the source.',
    source LowCardinality(String) COMMENT 'Name of the source.',
    reason LowCardinality(String) COMMENT 'signature_missing_header, signature_malformed, signature_stale_timestamp, signature_bad_signature or wrong_token.',
    requests UInt64 COMMENT 'Requests turned away for this reason.',
    minutes UInt64 COMMENT 'Distinct minutes in which that happened.',
    max_per_minute UInt64 COMMENT 'Most of them in one minute.',
    first_minute DateTime64(6, 'UTC') COMMENT 'Start of the first such minute.',
    last_minute DateTime64(6, 'UTC') COMMENT 'Start of the last such minute.',
    accepted UInt64 COMMENT 'Deliveries of this source received that day.',
    failure_rate Float64 COMMENT 'requests / (requests + accepted).'
)
AS SELECT
    failed.day AS day,
    failed.tenant AS tenant,
    failed.source AS source,
    reason,
    sum(in_minute) AS requests,
    count() AS minutes,
    max(in_minute) AS max_per_minute,
    min(minute) AS first_minute,
    max(minute) AS last_minute,
    any(received.deliveries) AS accepted,
    requests / (requests + accepted) AS failure_rate
FROM (
    SELECT toDate(minute, 'UTC') AS day, tenant, source, reason, minute, sum(count) AS in_minute
    FROM ${database}.rejections FINAL
    WHERE startsWith(reason, 'signature_') OR reason = 'wrong_token'
    GROUP BY tenant, source, reason, minute
) AS failed
LEFT JOIN (
    SELECT toDate(received_at, 'UTC') AS day, tenant, source, count() AS deliveries
    FROM ${database}.deliveries_by_time FINAL
    GROUP BY day, tenant, source
) AS received ON received.day = failed.day AND received.tenant = failed.tenant AND received.source = failed.source
GROUP BY day, tenant, source, reason
COMMENT 'Requests that did not prove who sent them, beside those accepted.';
