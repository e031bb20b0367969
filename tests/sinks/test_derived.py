"""What ClickHouse derives from our tables: right with repeats, disorder, rows from before, and a server that ended half way."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from kybstream.settings import ClickHouseSettings
from schemas.codec import encode
from schemas.records import Record
from sinks.clickhouse import connected
from sinks.derived import DERIVED, feed, feed_newest, newest_inserts
from sinks.metrics import SinkMetrics
from sinks.migrate import _statements, migrate, migrations, table_columns
from sinks.query import Value, query
from sinks.writer import Writer
from tests.sinks.making import NO_PRODUCER, FakeMessage, at, case, delivery, event, land, rows, settings_for, table_of

_CASES = "SELECT tenant, case_id, version, outcome FROM current_cases ORDER BY tenant, case_id"
_TRUTH = (
    "SELECT tenant, case_id, version, outcome "
    "FROM (SELECT * FROM cases FINAL ORDER BY version DESC LIMIT 1 BY tenant, case_id) "
    "WHERE outcome != 'merged' ORDER BY tenant, case_id"
)


def _versions(cases: int, versions: int) -> list[Record]:
    """So many versions of so many cases, each closed in the versions with an odd number, at another time."""
    return [
        case(f"c{number}", version=version, updated_at=at(minutes=version))
        if version % 2 == 0
        else case(f"c{number}", version=version, outcome="completed", closed_at=at(minutes=version))
        for number in range(cases)
        for version in range(1, versions + 1)
    ]


def _messages(records: Sequence[Record], first: int = 0, partition: int = 3) -> list[FakeMessage]:
    topic = "kyb." + table_of(type(records[0])).topic
    return [FakeMessage(first + index, encode(record), topic, partition) for index, record in enumerate(records)]


async def _write(clickhouse: ClickHouseSettings, messages: list[FakeMessage], kind: type[Record]) -> None:
    """As the sink: framed, with its token and its settings."""
    async with connected(clickhouse) as client:
        names = await table_columns(clickhouse, client)
        await Writer(settings_for(clickhouse.url, clickhouse.database), client, NO_PRODUCER, names, SinkMetrics()).write(
            table_of(kind), messages
        )


async def _numbers(clickhouse: ClickHouseSettings, sql: str) -> list[Value]:
    return [value for row in await rows(clickhouse, sql, final=False) for value in row.values()]


async def test_versions_in_any_order_and_twice_end_in_the_newest(clickhouse: ClickHouseSettings) -> None:
    """60 versions of 10 cases land shuffled, in seven inserts, each twice: each case stands as its newest version says."""
    await query(clickhouse, "SYSTEM STOP MERGES case_states")
    made = _versions(10, 6)
    random.Random(4).shuffle(made)  # noqa: S311 (no secret)
    for _ in range(2):
        for begin in range(0, len(made), 9):
            await land(clickhouse, made[begin : begin + 9])
    found = await rows(clickhouse, _CASES, final=False)
    assert found == await rows(clickhouse, _TRUTH, final=False)
    assert [(row["version"], row["outcome"]) for row in found] == [(6, "open")] * 10
    closings = "SELECT DISTINCT first_closed_at, last_closed_at FROM case_closings FINAL"
    (first, last) = await _numbers(clickhouse, closings)
    assert (str(first)[11:16], str(last)[11:16]) == ("00:01", "00:05")


async def test_of_one_version_the_newest_landing_counts_however_it_is_fed(clickhouse: ClickHouseSettings) -> None:
    """A version that is told anew replaces the one told before, and feeding the old row again does not bring it back."""
    await land(clickhouse, [case("c", outcome="open")])
    await land(clickhouse, [case("c", outcome="completed", closed_at=at(hours=1))])
    async with connected(clickhouse) as client:
        for target in DERIVED:
            await feed(clickhouse, client, target, rows="outcome = 'open'" if target.source == "cases" else "1")
    assert [row["outcome"] for row in await rows(clickhouse, _CASES, final=False)] == ["completed"]


async def test_an_event_that_landed_twice_is_one_fact(clickhouse: ClickHouseSettings) -> None:
    """Of an event the newest landing counts; another event of the same moment stays."""
    await land(clickhouse, [event(1, status="pending"), event(2, received_at=at(seconds=1))])
    await land(clickhouse, [event(1, status="resolved")])
    found = await rows(clickhouse, "SELECT event_id, status FROM events_by_time FINAL ORDER BY event_id", final=False)
    assert [tuple(row.values()) for row in found] == [("event-000001", "resolved"), ("event-000002", None)]


async def test_rows_from_before_the_migration_are_there_after_it(clickhouse_server: str, database_name: str) -> None:
    """Tables of an older version, filled, some rows twice: after `migrate` the derived tables hold what they say."""
    clickhouse = ClickHouseSettings(url=clickhouse_server, database=database_name)
    await migrate(clickhouse)
    for each in DERIVED:
        await query(clickhouse, f"DROP TABLE {each.feed} SYNC")
        await query(clickhouse, f"DROP TABLE {each.name} SYNC")
    for _ in range(2):
        await land(clickhouse, _versions(3, 4))
        await land(clickhouse, [event(1), event(2)])
        await land(clickhouse, [delivery(1), delivery(2), delivery(3)])
    first = min(each.number for each in migrations() if "_feed TO" in each.sql)
    derived = [each for each in migrations() if each.number >= first]
    await query(clickhouse, f"DELETE FROM schema_migrations WHERE number >= {first}")  # noqa: S608 (a number)
    assert await migrate(clickhouse) == [str(each) for each in derived]
    assert await rows(clickhouse, _CASES, final=False) == await rows(clickhouse, _TRUTH, final=False)
    assert await _numbers(clickhouse, "SELECT count() FROM case_closings FINAL") == [3]
    assert await _numbers(clickhouse, "SELECT count() FROM events_by_time FINAL") == [2]
    assert await _numbers(clickhouse, "SELECT count() FROM deliveries_by_time FINAL") == [3]
    for migration in derived:  # half way, and again: no harm
        for statement in _statements(migration.sql):
            await query(clickhouse, statement.replace("${database}", database_name))
    assert await rows(clickhouse, _CASES, final=False) == await rows(clickhouse, _TRUTH, final=False)
    given_up = "SELECT count() FROM system.tables WHERE database = currentDatabase() AND name LIKE '%facts%'"
    assert await _numbers(clickhouse, given_up) == [0]


async def test_a_repeat_that_the_table_drops_reaches_what_is_derived(clickhouse: ClickHouseSettings) -> None:
    """The server ended between the table and what is derived from it: the sink's own repeat, with its token, makes it whole."""
    messages = _messages(_versions(5, 3))
    await query(clickhouse, "DETACH TABLE case_states_feed")
    await _write(clickhouse, messages, type(case("c")))
    await query(clickhouse, "ATTACH TABLE case_states_feed")
    assert await _numbers(clickhouse, "SELECT count() FROM case_states FINAL") == [0]
    await _write(clickhouse, messages, type(case("c")))
    await _write(clickhouse, messages, type(case("c")))
    assert await _numbers(clickhouse, "SELECT count() FROM cases") == [15]  # dropped there, without FINAL
    assert await _numbers(clickhouse, "SELECT count() FROM case_states") == [5]  # and here the third time
    assert await rows(clickhouse, _CASES, final=False) == await rows(clickhouse, _TRUTH, final=False)


@pytest.mark.parametrize(("partition", "fed"), [(1, {"other"}), (3, {"c0", "c1"})])
async def test_who_takes_a_partition_makes_whole_what_its_last_insert_left(
    clickhouse: ClickHouseSettings, partition: int, fed: set[str]
) -> None:
    """Sink and server both ended: the newest insert of the partition is fed again; one before it, and another's, are not."""
    await query(clickhouse, "DETACH TABLE case_states_feed")
    kind = type(case("c"))
    await _write(clickhouse, _messages([case("before")]), kind)
    await _write(clickhouse, _messages(_versions(2, 3), first=10), kind)
    await _write(clickhouse, _messages([case("other")], partition=1), kind)
    await query(clickhouse, "ATTACH TABLE case_states_feed")
    landed = f"SELECT toUnixTimestamp64Micro(max(_inserted_at)) FROM cases WHERE _partition = {partition}"  # noqa: S608
    (newest,) = await _numbers(clickhouse, landed)
    async with connected(clickhouse) as client:
        await feed_newest(clickhouse, client, "cases", {partition: int(str(newest))})
    assert {row["case_id"] for row in await rows(clickhouse, _CASES, final=False)} == fed


async def test_the_newest_insert_is_found_without_reading_the_table(clickhouse: ClickHouseSettings) -> None:
    """Of 200,000 rows that landed before, next to none are read for the hundred that landed last."""
    columns = "tenant, case_id, version, updated_at, opened_at, _topic, _partition, _offset"
    await query(
        clickhouse,
        f"INSERT INTO cases ({columns}) SELECT 'acme', toString(number), 1, now64(6), now64(6), 't', 3, number "  # noqa: S608
        "FROM numbers(200000)",
    )
    await _write(clickhouse, _messages(_versions(50, 2), first=300_000), type(case("c")))
    (newest,) = await _numbers(clickhouse, "SELECT toUnixTimestamp64Micro(max(_inserted_at)) FROM cases")
    async with connected(clickhouse) as client:
        found = await client.query(
            f"SELECT count() FROM {clickhouse.database}.cases "  # noqa: S608
            f"WHERE {newest_inserts({3: int(str(newest))})}"
        )
    assert found.result_rows == [(100,)]
    assert int(found.summary["read_rows"]) <= 10_000


async def test_an_insert_has_one_time_of_landing(clickhouse: ClickHouseSettings) -> None:
    """By which its rows are known as one insert."""
    await _write(clickhouse, _messages(_versions(500, 4)), type(case("c")))
    assert await _numbers(clickhouse, "SELECT uniqExact(_inserted_at) FROM cases") == [1]


_SELDOM_READ = {
    "event_id",
    "subject",
    "subjects",
    "merged_into",
    "expected_subjects",
    "case_states._inserted_at",
    "case_closings.updated_at",
}


async def test_what_every_question_reads_is_stored_to_be_read_quickly(clickhouse: ClickHouseSettings) -> None:
    """No column of a derived table is left to the server's own codec, but those that only questions about few cases read."""
    names = ", ".join(f"'{each.name}'" for each in DERIVED)
    found = await rows(
        clickhouse,
        "SELECT table, name, compression_codec FROM system.columns WHERE database = currentDatabase() "  # noqa: S608 (ours)
        f"AND table IN ({names})",
        final=False,
    )
    left = {(row["table"], row["name"]) for row in found if not row["compression_codec"]}
    assert {name if name in _SELDOM_READ else f"{table}.{name}" for table, name in left} <= _SELDOM_READ
    assert {row["compression_codec"] for row in found if row["name"] == "received_at"} == {"CODEC(T64)"}
