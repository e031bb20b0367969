"""The event log in the order in which files are written: case by case, and in each case by time."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime

import msgspec

from kybstream.errors import RunError
from kybstream.ids import to_micros
from kybstream.settings import ClickHouseSettings
from sinks.query import Parameter, stream


class LogRow(msgspec.Struct, frozen=True):
    """A row of `event_log`, with what is known of its case; `outcome` is empty when the case has not landed yet.

    Times are ISO 8601 in UTC with microseconds. Texts are empty where there is nothing to say.
    """

    tenant: str
    case_id: str
    at: str
    activity: str
    transition: str
    resource: str
    event_id: str
    type: str
    status: str
    subject: str
    kyc_level: str
    placement: str
    opened_at: str
    opened_at_source: str
    updated_at: str
    match_state: str
    kyb_status: str
    kyc_status: str
    outcome: str


@dataclass(frozen=True)
class Selection:
    """Which cases are meant: whole ones, because a process that is cut off looks like another process.

    Attributes:
        since: Opened at this time or later; aware; None: whenever.
        until: Opened before this time; aware; None: whenever.
        tenant: Of this tenant; None: of any.
    """

    since: datetime | None = None
    until: datetime | None = None
    tenant: str | None = None


# ClickHouse spills what it sorts and joins to its disk from here on.
_SPILL_BYTES = 1_000_000_000

_SQL = """
SELECT
    log.`case:tenant` AS tenant,
    log.`case:concept:name` AS case_id,
    log.`time:timestamp` AS at,
    log.`concept:name` AS activity,
    log.`lifecycle:transition` AS transition,
    log.`org:resource` AS resource,
    log.event_id AS event_id,
    log.type AS type,
    log.status AS status,
    log.subject AS subject,
    log.kyc_level AS kyc_level,
    log.placement AS placement,
    cases.opened_at AS opened_at,
    cases.source AS opened_at_source,
    cases.updated_at AS updated_at,
    cases.match_state AS match_state,
    cases.kyb_status AS kyb_status,
    cases.kyc_status AS kyc_status,
    cases.outcome AS outcome
FROM (SELECT * FROM event_log WHERE {of_tenant_log}) AS log
{kind} JOIN (
    SELECT
        tenant, case_id, opened_at, toString(opened_at_source) AS source, updated_at,
        match_state, kyb_status, kyc_status, outcome
    FROM current_cases
    WHERE {of_tenant} AND {opened}
) AS cases ON cases.tenant = log.`case:tenant` AND cases.case_id = log.`case:concept:name`
ORDER BY tenant, case_id, at, log.tie_rank, type, status, subject, event_id, activity
SETTINGS max_bytes_before_external_sort = {spill}, join_algorithm = 'grace_hash', max_bytes_in_join = {spill}
"""


async def read_log(clickhouse: ClickHouseSettings, selection: Selection) -> AsyncIterator[LogRow]:
    """The rows of the selected cases; only a few of them are in memory.

    Raises:
        UnavailableError: ClickHouse cannot be reached.
        RunError: It refused the query, or broke off its answer.
    """
    opened = []
    parameters: dict[str, Parameter] = {}
    for name, moment, sign in (("since", selection.since, ">="), ("until", selection.until, "<")):
        if moment is not None:
            opened.append(f"opened_at {sign} fromUnixTimestamp64Micro({{{name}:Int64}}, 'UTC')")
            parameters[name] = to_micros(moment)
    if selection.tenant is not None:
        parameters["tenant"] = selection.tenant
    statement = _SQL.format(
        of_tenant="tenant = {tenant:String}" if selection.tenant is not None else "true",
        of_tenant_log="`case:tenant` = {tenant:String}" if selection.tenant is not None else "true",
        opened=" AND ".join(opened) or "true",
        kind="INNER" if opened else "LEFT",
        spill=_SPILL_BYTES,
    )
    async with aclosing(stream(clickhouse, statement, "json", final=False, parameters=parameters)) as pieces:
        async for row in decoded(pieces):
            yield row


async def decoded(pieces: AsyncIterable[bytes]) -> AsyncIterator[LogRow]:
    """The rows of an answer that comes in pieces of any length, one object a line.

    Raises:
        RunError: A line is no row, or the last one has no end: ClickHouse met an error after it had begun to answer.
    """
    decoder = msgspec.json.Decoder(LogRow)
    rest = b""
    async for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            try:
                yield decoder.decode(line)
            except msgspec.MsgspecError:
                raise _broken_off() from None
    if rest:
        raise _broken_off()


def _broken_off() -> RunError:
    return RunError(
        "ClickHouse broke off its answer", hint="Its log says why. A --tenant, --since or --until makes it smaller."
    )
