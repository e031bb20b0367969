"""Which deliveries ClickHouse holds, in pieces that fit into memory, for `kyb-stream reconcile`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import datetime

import msgspec

from kybstream.errors import KybStreamError, UnavailableError
from kybstream.expired import Expired
from kybstream.settings import ClickHouseSettings
from schemas.expired import EXPIRED_UNREAD, expired_range
from sinks.clickhouse import quoted
from sinks.query import query, stream

_AT_ONCE = 6_000_000
"""Ids of one answer, held by ClickHouse; each reads the whole column."""
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

    def sql(piece: int) -> str:
        return (
            "SELECT right(delivery_id, 2) AS ending, "  # noqa: S608 (numbers and times of ours)
            f"groupArrayIf(delivery_id, {covered}) AS reachable, "
            f"groupArrayIf(delivery_id, NOT ({covered})) AS others FROM deliveries "
            f"WHERE cityHash64(right(delivery_id, 2)) % {pieces} = {piece} GROUP BY ending"
        )

    async with AsyncExitStack() as asked:
        following = _Answer(clickhouse, sql(0))
        asked.push_async_callback(following.end)
        for piece in range(1, pieces + 1):
            current = following
            await current.begun
            if piece < pieces:  # ClickHouse looks for these while the others are compared
                following = _Answer(clickhouse, sql(piece))
                asked.push_async_callback(following.end)
            async for line in current.lines():
                try:
                    row = _decode(line)
                except msgspec.DecodeError:
                    # What goes wrong behind the first line ClickHouse says in the middle of the answer.
                    raise UnavailableError("ClickHouse broke off its answer", hint="its log says why") from None
                yield row.ending, LandedIds(row.reachable, row.others)


async def told_expired(clickhouse: ClickHouseSettings, *, since: datetime) -> list[tuple[str, Expired]]:
    """What dead letters say has expired unread, noticed since then: stage and offsets.

    Raises:
        UnavailableError: ClickHouse does not answer.
        RefusedError: The table is missing.
    """
    found = await query(
        clickhouse,
        "SELECT DISTINCT stage, origin_topic, detail FROM dead_letters "  # noqa: S608 (a code and a time of ours)
        f"WHERE reason = '{EXPIRED_UNREAD}' AND received_at >= {_time(since)}",
        final=False,
    )
    told = [(str(stage), expired_range(str(topic), str(detail))) for stage, topic, detail in found.rows]
    return [(stage, expired) for stage, expired in told if expired is not None]


class _Row(msgspec.Struct):
    ending: str
    reachable: list[str]
    others: list[str]


_decode = msgspec.json.Decoder(_Row).decode


class _Answer:
    """What ClickHouse is asked at once and read line by line, so that no more than a line of it is held.

    Attributes:
        begun: Done when the first bytes have come.
    """

    def __init__(self, clickhouse: ClickHouseSettings, sql: str) -> None:
        self._pieces = stream(clickhouse, sql, "json")
        self.begun = asyncio.create_task(self._begin())

    async def _begin(self) -> bytes:
        return await anext(self._pieces, b"")

    async def lines(self) -> AsyncIterator[bytes]:
        """The lines of the answer."""
        held = [await self.begun]
        async for piece in self._pieces:
            held.append(piece)
            if b"\n" in piece:
                *lines, rest = b"".join(held).split(b"\n")
                held = [rest]
                for line in lines:
                    yield line
        for line in b"".join(held).splitlines():
            yield line

    async def end(self) -> None:
        """Reads no further."""
        self.begun.cancel()
        with suppress(asyncio.CancelledError, KybStreamError):
            await self.begun
        await self._pieces.aclose()


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


async def landed_offsets(clickhouse: ClickHouseSettings, topics: Mapping[str, str]) -> dict[tuple[str, int], int]:
    """The offset of the row that landed last, by topic and partition; those without rows are left out.

    Args:
        clickhouse: Where.
        topics: The table that each topic lands in, by the topic's full name.

    Raises:
        UnavailableError: ClickHouse does not answer.
        RefusedError: A table is missing.
    """
    landed: dict[tuple[str, int], int] = {}
    for topic, table in topics.items():
        answer = await query(
            clickhouse,
            f"SELECT _partition, argMax(_offset, (_inserted_at, _offset)) FROM {table} "  # noqa: S608 (names of ours)
            f"WHERE _topic = {quoted(topic)} GROUP BY _partition",
            final=False,
        )
        landed |= {(topic, int(str(partition))): int(str(offset)) for partition, offset in answer.rows}
    return landed


def _time(moment: datetime) -> str:
    return f"toDateTime64('{moment:%Y-%m-%d %H:%M:%S.%f}', 6, 'UTC')"
