"""A year of a busy installation, made by ClickHouse itself out of numbers: the same figures for the same number of cases.

A case has three to eight steps, five on average: it is initiated, a KYC result comes, services are resolved. Of a hundred cases
five never close and expire after 90 days, twelve are rejected temporarily on the way, three for good; one is opened again, and two
begin under a provisional case of the person. One delivery in twelve is a repeat. Rows come as the sink writes them: in order of
receipt, so many windows of time an insert each, and one row in 500 lands a second time, as a batch does after a crash of the worker.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

STAGING = "bench_steps"
WINDOWS = 40
_YEAR = timedelta(days=365)
_LANDED_TWICE_IN = 500

# Of the case with the number n: what does not change with its steps. `draw(k)` is a number of 0 to 1, another for each k.
_CASE = """
    (k -> cityHash64(n, k) % 1000000 / 1e6) AS draw,
    ['acme', 'beta', 'gamma', 'delta', 'epsilon'][1 + (draw(1) > 0.5) + (draw(1) > 0.75) + (draw(1) > 0.9) + (draw(1) > 0.98)] AS tenant,
    concat(lower(hex(toUInt32(toUnixTimestamp64Second(opened_at)))), substring(lower(hex(cityHash64(n))), 1, 11)) AS own_case_id,
    lower(hex(sipHash128('subject', n))) AS person,
    draw(4) < 0.12 AND last > 2 AS is_temporary,
    draw(4) > 0.97 AS is_permanent,
    draw(5) < 0.02 AS is_provisional,
    draw(6) < 0.01 AND last > 3 AS is_reopened,
    (k -> opened_at + toIntervalMicrosecond(toInt64(took * pow(k / last, 1.5)))) AS time_of,
    arrayMap(
        k -> ['questionnaire', 'kyc', 'kyb_check', 'document_base_kyb', 'aml', 'documents', 'aml_for_company', 'aml_for_people'][1 + (intDiv(n, 4) + k) % 8],
        range(1 + n % 4)
    ) AS names
"""

_EVENT = """
    toString(reinterpretAsUUID(sipHash128('event', n, step))) AS event_id,
    step = 1 OR (step = 2 AND is_temporary) AS is_kyc,
    multiIf(
        step = 0, 'service_initiated', is_kyc, 'kyc_result', step = last, 'service_resolved', step % 3 = 2, 'service_resolved',
        step % 3 = 0, 'document_purchase_request', 'ongoing_aml_webhook'
    ) AS type,
    multiIf(
        is_kyc AND is_temporary AND step = 1, 'temporary_rejection', is_kyc AND is_permanent, 'permanent_rejection', is_kyc, 'success',
        step = last OR type = 'service_resolved', 'resolved', 'pending'
    ) AS status,
    if(is_kyc, 'kyc', 'kyb') AS source,
    if(is_kyc, 'kyc-registration', 'kyb-service') AS source_kind,
    if(is_kyc, concat(tenant, '/', person), concat(tenant, '/', own_case_id)) AS entity_key,
    if(is_kyc AND is_provisional, concat('kyc:', person), own_case_id) AS case_id,
    if(cityHash64(n, step, 8) % 50 = 0, ['missing:uid', 'too_long:description'], []) AS violations,
    leftPad(lower(hex(toUInt64(toUnixTimestamp64Milli(received_at)))), 16, '0') AS milliseconds,
    lower(hex(sipHash128('delivery', n, step))) AS drawn,
    concat(substring(milliseconds, 5, 8), '-', substring(milliseconds, 13, 4), '-7', substring(drawn, 1, 3), '-8') AS id_begins,
    concat(id_begins, substring(drawn, 4, 3), '-', substring(drawn, 7, 12)) AS first_delivery
"""

_WHERE_FROM = """
    {topic} AS _topic, n % 8 AS _partition, toUnixTimestamp64Micro(received_at) AS _offset,
    received_at + toIntervalMicrosecond(150000 + cityHash64(n, step, 9) % 700000) AS _inserted_at
"""

_EVENTS = f"""
INSERT INTO {{database}}.events (
    event_id, delivery_id, received_at, tenant, source, source_kind, entity_key, case_id, placement, type, status, services, service_id,
    kyb_backoffice_id, subject, kyc_type, kyc_level, country, fail_reasons, unknown_fields, violations,
    _topic, _partition, _offset, _inserted_at
)
WITH {_CASE}, {_EVENT}
SELECT
    event_id, first_delivery, received_at, tenant, source, source_kind, entity_key, case_id,
    multiIf(NOT is_kyc, 'own', is_provisional, 'unlinked', n % 3 = 0, 'registered', n % 3 = 1, 'path_token', 'remark_token'),
    type, status, if(is_kyc, [], if(step = 0 OR step = last, names, [names[1]])),
    if(is_kyc, NULL, own_case_id), if(is_kyc, NULL, concat('kyb-', own_case_id)), if(is_kyc, person, NULL), if(is_kyc, '1', NULL),
    if(is_kyc, '2', NULL), if(is_kyc, ['DE', 'FR', 'GB', 'US'][1 + n % 4], NULL),
    if(status LIKE '%rejection', [['BLURRED', 'EXPIRED', 'MISMATCH', 'other'][1 + n % 4]], []),
    if(cityHash64(n, step, 10) % 100 = 0, ['newField'], []), violations,
    {_WHERE_FROM.format(topic="'kyb.events.v1'")}
FROM {{staging}}
WHERE received_at >= {{since}} AND received_at < {{until}} AND NOT is_expiry
"""

_DELIVERIES = f"""
INSERT INTO {{database}}.deliveries (
    delivery_id, received_at, tenant, source, source_kind, verdict, reason, event_id, first_delivery_id, entity_key, case_id,
    event_type, violations, body_size, _topic, _partition, _offset, _inserted_at
)
WITH {_CASE}, {_EVENT},
    cityHash64(n, step, 7) AS luck,
    arrayJoin(if(luck % 12 = 0, [0, if(luck % 5 = 0, 300, 10 * (1 + luck % 9))], [0])) AS later,
    step = 0 AND later = 0 AND luck % 400 = 1 AS is_unreadable
SELECT
    if(later = 0, first_delivery, concat(id_begins, substring(drawn, 20, 3), '-', substring(drawn, 20, 12))),
    received_at + toIntervalSecond(later), tenant, source, source_kind,
    multiIf(is_unreadable, 'quarantined', later = 0, 'new', 'duplicate'),
    if(is_unreadable, 'not_json', NULL), if(is_unreadable, NULL, event_id), if(is_unreadable, NULL, first_delivery),
    if(is_unreadable, NULL, entity_key), if(is_unreadable, NULL, case_id), if(is_unreadable, NULL, type),
    violations, 400 + luck % 800, 'kyb.deliveries.v1' AS _topic, n % 8 AS _partition, toUnixTimestamp64Micro(received_at) * 2 + (later > 0) AS _offset,
    received_at + toIntervalSecond(later) + toIntervalMicrosecond(150000 + luck % 700000) AS _inserted_at
FROM {{staging}}
WHERE received_at >= {{since}} AND received_at < {{until}} AND NOT is_expiry
"""

_CASES = f"""
INSERT INTO {{database}}.cases (
    tenant, case_id, version, match_state, kyb_status, kyc_status, outcome, services, subjects, opened_at, opened_at_source,
    kyb_initiated_at, kyb_resolved_at, kyc_first_result_at, kyc_final_at, linked_at, closed_at, deadline_at, updated_at, placements,
    resubmissions, aml_alerts, anomalies, _topic, _partition, _offset, _inserted_at
)
WITH {_CASE},
    step >= 1 AS has_kyc,
    step = last AND NOT is_expiry AS is_done,
    draw(11) < 0.9 AS is_measured,
    multiIf(NOT has_kyc, 'pending', is_temporary AND step = 1, 'temporary_rejection', is_permanent, 'permanent_rejection', 'success') AS kyc,
    CAST(multiIf(
        has_kyc AND is_permanent, time_of(1), is_done, time_of(last), is_reopened AND step = last - 2, received_at, NULL
    ), 'Nullable(DateTime64(6, ''UTC''))') AS closed
SELECT
    tenant, own_case_id, step + 1, if(has_kyc, 'matched', 'kyb_only'), if(is_done, 'resolved', 'pending'), kyc,
    multiIf(
        has_kyc AND is_permanent, 'rejected', closed IS NOT NULL, 'completed', is_expiry, 'expired',
        kyc = 'temporary_rejection', 'awaiting_resubmission', 'open'
    ),
    arrayMap(
        (name, k) -> (name, if(is_measured, toNullable(opened_at), NULL), if(is_done OR (k = 1 AND step >= 2 AND last > 2), toNullable(time_of(if(k = 1 AND last > 2, 2, last))), NULL)),
        names, arrayEnumerate(names)
    ),
    [(person, '2', '1', kyc, 1 + (is_temporary AND step >= 2))],
    opened_at, multiIf(is_measured, 'event', draw(12) < 0.5, 'id_embedded', 'first_receipt'),
    if(is_measured, toNullable(opened_at), NULL), if(is_done, toNullable(time_of(last)), NULL), if(has_kyc, toNullable(time_of(1)), NULL),
    if(kyc IN ('success', 'permanent_rejection'), toNullable(time_of(if(is_temporary, 2, 1))), NULL),
    if(has_kyc, toNullable(time_of(1)), NULL), closed, opened_at + INTERVAL 90 DAY, received_at,
    if(has_kyc, [['registered', 'path_token', 'remark_token'][1 + n % 3]], []), is_temporary AND step >= 2, step > 3,
    if(draw(13) < 0.03, ['link_service_id_mismatch'], []),
    {_WHERE_FROM.format(topic="'kyb.cases.v1'")}
FROM {{staging}}
WHERE received_at >= {{since}} AND received_at < {{until}}
"""

_PROVISIONAL = f"""
INSERT INTO {{database}}.cases (
    tenant, case_id, version, match_state, kyb_status, kyc_status, outcome, merged_into, subjects, opened_at, opened_at_source,
    kyc_first_result_at, deadline_at, updated_at, placements, _topic, _partition, _offset, _inserted_at
)
WITH {_CASE}
SELECT
    tenant, concat('kyc:', person), step, 'kyc_only', 'none', 'success', if(step = 1, 'open', 'merged'), if(step = 1, NULL, own_case_id),
    [(person, '2', '1', 'success', 1)], time_of(1), 'first_receipt', time_of(1), time_of(1) + INTERVAL 90 DAY, received_at, ['unlinked'],
    {_WHERE_FROM.format(topic="'kyb.cases.v1'")}
FROM {{staging}}
WHERE received_at >= {{since}} AND received_at < {{until}} AND step IN (1, 2) AND is_provisional
"""

_REJECTIONS = """
INSERT INTO {database}.rejections (rejection_id, minute, tenant, source, reason, count, ingress, _topic, _partition, _offset, _inserted_at)
WITH toStartOfMinute({start} + toIntervalSecond(intDiv(number * 31536000, {rejections}))) AS minute, cityHash64(number) AS luck
SELECT
    toString(reinterpretAsUUID(sipHash128('rejection', number))), minute, ['acme', 'beta', 'gamma', 'delta', 'epsilon'][1 + luck % 5],
    ['kyb', 'kyc'][1 + luck % 2], ['wrong_token', 'signature_bad_signature', 'too_large', 'rate_limited'][1 + intDiv(luck, 10) % 4],
    1 + luck % 20, 'ingress-1', 'kyb.rejections.v1', number % 8, number, minute + INTERVAL 61 SECOND
FROM numbers({rejections})
"""

_DEAD_LETTERS = """
INSERT INTO {database}.dead_letters (
    dead_letter_id, delivery_id, received_at, tenant, source, stage, reason, origin_topic, body_size, _topic, _partition, _offset, _inserted_at
)
SELECT
    toString(reinterpretAsUUID(sipHash128('dead letter', delivery_id))), delivery_id, received_at, tenant, source, 'intake', 'not_json',
    'kyb.webhooks.raw.v1', body_size, 'kyb.dead-letters.v1', _partition, _offset, _inserted_at
FROM {database}.deliveries WHERE verdict = 'quarantined'
"""

_STEPS = """
INSERT INTO {staging}
WITH
    (k -> cityHash64(n, k) % 1000000 / 1e6) AS draw,
    {start} + toIntervalMicrosecond(toInt64(31536000e6 * n / {cases}) + cityHash64(n, 20) % 1000000) AS opened_at,
    toUInt8(2 + n % 5 + (n % 10 = 0)) AS last,
    toInt64(-log(draw(3) + 1e-6) * 2.16e11) + cityHash64(n, 21) % 1000003 AS took,
    arrayJoin(range(last + 1)) AS step,
    draw(2) < 0.05 AND step = last AS is_expiry
SELECT
    n, step, last, opened_at, took, is_expiry,
    if(is_expiry, opened_at + INTERVAL 90 DAY, opened_at + toIntervalMicrosecond(toInt64(took * pow(step / last, 1.5)))) AS received_at
FROM (SELECT toUInt32(number) AS n FROM numbers({first}, {count}))
WHERE received_at < {end}
"""

_STAGING_TABLE = """
CREATE TABLE {staging}
(
    n UInt32, step UInt8, last UInt8, opened_at DateTime64(6, 'UTC'), took Int64, is_expiry Bool, received_at DateTime64(6, 'UTC')
)
ENGINE = MergeTree ORDER BY (received_at, n, step)
"""


@dataclass(frozen=True)
class Size:
    """How much is made.

    Attributes:
        cases: Number of cases; there are five times as many events, and a little more of deliveries and of versions.
        end: The newest receipt lies before it; the oldest opening a year before.
    """

    cases: int
    end: datetime


def statements(database: str, size: Size) -> Iterator[str]:
    """What fills the tables of a migrated, empty database, statement by statement; none runs for long."""
    start = size.end - _YEAR
    names = {"database": database, "staging": f"{database}.{STAGING}", "start": _time(start), "end": _time(size.end)}
    yield _STAGING_TABLE.format(**names)
    piece = max(1, -(-size.cases // 10))
    for first in range(0, size.cases, piece):
        yield _STEPS.format(**names, cases=size.cases, first=first, count=min(piece, size.cases - first))
    width = (size.end - start) / WINDOWS
    for window in range(WINDOWS):
        again = width / _LANDED_TWICE_IN
        bounds = {"since": _time(start + window * width - again), "until": _time(start + (window + 1) * width)}
        for statement in (_EVENTS, _DELIVERIES, _CASES, _PROVISIONAL):
            yield statement.format(**names, **bounds)
    yield _REJECTIONS.format(**names, rejections=max(1, size.cases // 10))
    yield _DEAD_LETTERS.format(**names)
    yield "DROP TABLE {staging}".format(**names)


def _time(moment: datetime) -> str:
    return f"toDateTime64('{moment:%Y-%m-%d %H:%M:%S.%f}', 6, 'UTC')"
