"""Which deliveries ClickHouse holds, in pieces that fit into memory, for `kyb-stream reconcile`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from kybstream.settings import ClickHouseSettings
from sinks.clickhouse import quoted
from sinks.query import Answer, Value, query

_AT_ONCE = 1_000_000
"""Ids of one answer."""
_ASKED_AT_ONCE = 2_000


@dataclass(frozen=True)
class LandedIds:
    """Ids of deliveries, each as often as it has rows.

    Attributes:
        reachable: Received in the time that the raw topic covers.
        others: Received before or after it.
    """

    reachable: Sequence[str]
    others: Sequence[str]


async def landed_ids(
    clickhouse: ClickHouseSettings, *, since: datetime | None, until: datetime
) -> AsyncIterator[tuple[str, LandedIds]]:
    """All ids by their last two characters, each pair of characters once.

    Args:
        clickhouse: Where.
        since: From when on the raw topic is complete; None when it is empty, and then all are `others`.
        until: Up to when.

    Raises:
        UnavailableError: ClickHouse does not answer.
        RefusedError: The table is missing.
    """
    counted = await query(clickhouse, "SELECT count() FROM deliveries", final=False)
    pieces = int(str(counted.rows[0][0])) // _AT_ONCE + 1
    covered = "false" if since is None else f"received_at >= {_time(since)} AND received_at < {_time(until)}"

    def ask(piece: int) -> asyncio.Task[Answer]:
        sql = (
            f"SELECT right(delivery_id, 2) AS ending, arrayStringConcat(groupArrayIf(delivery_id, {covered}), ' '), "  # noqa: S608
            f"arrayStringConcat(groupArrayIf(delivery_id, NOT ({covered})), ' ') FROM deliveries "
            f"WHERE cityHash64(right(delivery_id, 2)) % {pieces} = {piece} GROUP BY ending"
        )
        return asyncio.create_task(query(clickhouse, sql))

    asked = ask(0)
    try:
        for piece in range(pieces):
            answer = await asked
            if piece + 1 < pieces:
                asked = ask(piece + 1)  # ClickHouse looks for the next while these are compared
            for ending, reachable, others in answer.rows:
                yield str(ending), LandedIds(_ids(reachable), _ids(others))
                await asyncio.sleep(0)  # else the next is not even sent meanwhile
    finally:
        asked.cancel()


async def missing_of(clickhouse: ClickHouseSettings, delivery_ids: Sequence[str]) -> list[str]:
    """Which of these ClickHouse does not hold.

    Raises:
        UnavailableError: ClickHouse does not answer.
        RefusedError: The table is missing.
    """
    missing: list[str] = []
    for begin in range(0, len(delivery_ids), _ASKED_AT_ONCE):
        some = delivery_ids[begin : begin + _ASKED_AT_ONCE]
        names = ", ".join(map(quoted, some))
        answer = await query(clickhouse, f"SELECT DISTINCT delivery_id FROM deliveries WHERE delivery_id IN ({names})")  # noqa: S608
        there = {str(row[0]) for row in answer.rows}
        missing += [each for each in some if each not in there]
    return missing


async def landed_by_verdict(clickhouse: ClickHouseSettings) -> dict[str, int]:
    """How many deliveries have landed, by verdict.

    Raises:
        UnavailableError: ClickHouse does not answer.
        RefusedError: The table is missing.
    """
    answer = await query(clickhouse, "SELECT verdict, count() FROM deliveries GROUP BY verdict ORDER BY verdict")
    return {str(verdict): int(str(rows)) for verdict, rows in answer.rows}


def _ids(joined: Value) -> list[str]:
    return str(joined).split(" ") if joined else []


def _time(moment: datetime) -> str:
    return f"toDateTime64('{moment:%Y-%m-%d %H:%M:%S.%f}', 6, 'UTC')"
