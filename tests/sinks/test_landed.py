"""Asking ClickHouse for all delivery ids, in pieces."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator
from datetime import timedelta

import pytest

from kybstream.errors import UnavailableError
from kybstream.ids import new_delivery_id
from kybstream.settings import ClickHouseSettings
from sinks import landed
from sinks.landed import landed_ids
from tests.sinks.making import DAY, delivery, land

_IDS = 1_000
_LATE = 100
"""So many were received after the time that is asked for."""
_UNTIL = DAY + timedelta(seconds=_IDS - _LATE)


async def test_all_ids_come_once_whatever_the_pieces(clickhouse: ClickHouseSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pair of last characters is given once, with its ids by whether they were received in the time asked for."""
    monkeypatch.setattr(landed, "_AT_ONCE", 150)
    ids = [new_delivery_id() for _ in range(_IDS)]
    await land(clickhouse, [delivery(number, delivery_id=each) for number, each in enumerate(ids)])
    expected: defaultdict[str, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for number, each in enumerate(ids):
        expected[each[-2:]][number >= _IDS - _LATE].append(each)
    found: dict[str, tuple[list[str], list[str]]] = {}
    async for ending, some in landed_ids(clickhouse, since=DAY, until=_UNTIL):
        assert ending not in found
        found[ending] = sorted(some.reachable), sorted(some.others)
    assert found == {ending: (sorted(one), sorted(two)) for ending, (one, two) in expected.items()}


async def test_who_reads_no_further_leaves_nothing_behind(
    clickhouse: ClickHouseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pieces that were asked for ahead are let go of."""
    monkeypatch.setattr(landed, "_AT_ONCE", 150)
    await land(clickhouse, [delivery(number, delivery_id=new_delivery_id()) for number in range(_IDS)])
    before = asyncio.all_tasks()
    reading = landed_ids(clickhouse, since=DAY, until=_UNTIL)
    await anext(reading)
    await reading.aclose()  # type: ignore[attr-defined]  # an async generator
    assert asyncio.all_tasks() == before


async def test_a_clickhouse_that_is_away_is_told() -> None:
    """As by any other question."""
    with pytest.raises(UnavailableError):
        await anext(landed_ids(ClickHouseSettings(url="http://127.0.0.1:1"), since=None, until=DAY))


async def test_an_answer_that_breaks_off_is_told(monkeypatch: pytest.MonkeyPatch, clickhouse: ClickHouseSettings) -> None:
    """ClickHouse puts its error into the answer that it has begun: no traceback, and none of its words, which quote values."""

    async def broken(*_args: object) -> AsyncGenerator[bytes, None]:
        yield b'{"ending":"aa","reachable":["1aa"],"others":[]}\n'
        yield b"Code: 241. DB::Exception: (while reading ada@example.com)"

    monkeypatch.setattr(landed, "stream", broken)
    reading = landed_ids(clickhouse, since=DAY, until=_UNTIL)
    assert (await anext(reading))[1].reachable == ["1aa"]
    with pytest.raises(UnavailableError, match="broke off") as told:
        await anext(reading)
    assert "ada" not in str(told.value)


@pytest.mark.parametrize("size", [1, 7, 45, 1_000])
async def test_lines_are_read_wherever_the_answer_is_cut(
    monkeypatch: pytest.MonkeyPatch, clickhouse: ClickHouseSettings, size: int
) -> None:
    """Pieces of the network are no lines: a line can be in many, and a piece can hold many; the last has no end of its own."""
    row = b'{"ending":"%02d","reachable":["a%02d","b%02d"],"others":[]}'
    answer = b"\n".join(row % (each, each, each) for each in range(20))

    async def cut(*_args: object) -> AsyncGenerator[bytes, None]:
        for begin in range(0, len(answer), size):
            yield answer[begin : begin + size]

    monkeypatch.setattr(landed, "stream", cut)
    found = {ending: list(some.reachable) async for ending, some in landed_ids(clickhouse, since=DAY, until=_UNTIL)}
    assert found == {f"{each:02d}": [f"a{each:02d}", f"b{each:02d}"] for each in range(20)}
