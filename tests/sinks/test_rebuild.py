from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest

from deploy.embedded.configuration import new_configuration, write_configuration
from kybstream.errors import UsageError
from kybstream.settings import Settings
from sinks import rebuild as rebuilding
from sinks.clickhouse import connected
from sinks.query import query
from sinks.rebuild import MARKS, SHADOW, marks_of, rebuild, unfinished
from sinks.tables import Table
from tests.sinks.making import case, delivery, land, rows
from tests.sinks.running import DEADLINE, landed, produce, row_count, running, with_sink
from tests.sinks.stuck_proxy import StuckProxy
from tests.support.commands import Background, kyb_stream
from tests.support.waiting import wait_until

STATES = "SELECT case_id, version FROM case_states ORDER BY case_id"
COMMENT = (
    "SELECT name, comment FROM system.tables WHERE database = currentDatabase() "
    "AND name IN ('deliveries', 'deliveries__rebuild')"
)


async def _tables(settings: Settings) -> dict[str, str]:
    return {str(row["name"]): str(row["comment"]) for row in await rows(settings.clickhouse, COMMENT, final=False)}


async def _bodies(settings: Settings) -> dict[str, int]:
    found = await rows(settings.clickhouse, "SELECT delivery_id, body_size FROM deliveries")
    assert len({row["delivery_id"] for row in found}) == len(found)
    return {str(row["delivery_id"]): int(str(row["body_size"])) for row in found}


async def test_a_table_is_built_anew_from_its_topic(settings: Settings) -> None:
    """What was changed in the table is as in the topic again; nothing else is left of it, and the sink goes on as before."""
    await produce(settings, [delivery(number) for number in range(50)])
    await produce(settings, [b"not avro", delivery(50)], "deliveries.v1", partition=1)
    async with running(settings):
        await landed(settings, "deliveries", 51)
    before = await _tables(settings)
    await query(settings.clickhouse, "ALTER TABLE deliveries UPDATE body_size = 1 WHERE true SETTINGS mutations_sync = 2")
    done = await rebuild(settings, "deliveries")
    assert (done.from_topic, done.kept) == (51, 0)
    assert await _bodies(settings) == {f"delivery-{number:06d}": 100 + number for number in range(51)}
    assert await _tables(settings) == before
    async with running(settings):
        await produce(settings, [delivery(51)])
        await landed(settings, "deliveries", 52)
    assert await row_count(settings, "deliveries") == 52


async def test_rows_whose_records_are_gone_are_kept(settings: Settings) -> None:
    """What the topic no longer holds stays: rows of an earlier topic here, versions that compaction removed."""
    await land(settings.clickhouse, [delivery(1000 + number) for number in range(5)])  # from `kyb.deliveries.v1`
    await land(settings.clickhouse, [case("c1", version=version) for version in (1, 2)])
    await produce(settings, [delivery(number) for number in range(10)])
    await produce(settings, [case("c1", version=2, aml_alerts=1), case("c1", version=3)])
    done = await rebuild(settings, "deliveries")
    assert (done.from_topic, done.kept) == (10, 5)
    assert await row_count(settings, "deliveries") == 15
    done = await rebuild(settings, "cases")
    assert (done.from_topic, done.kept) == (2, 1)
    found = await rows(settings.clickhouse, "SELECT version, aml_alerts FROM cases ORDER BY version")
    assert found == [{"version": 1, "aml_alerts": 0}, {"version": 2, "aml_alerts": 1}, {"version": 3, "aml_alerts": 0}]


async def test_what_is_derived_is_derived_anew(settings: Settings) -> None:
    """Rows that the tables beside had lost, or should never have had, are right after a rebuild; new ones are fed as before."""
    clickhouse = settings.clickhouse
    await produce(settings, [case(f"c{number}", version=version) for number in range(5) for version in (1, 2)])
    async with running(settings):
        await landed(settings, "cases", 10)
    before = await _derived(settings)
    await query(clickhouse, "TRUNCATE TABLE case_states")
    insert = "INSERT INTO case_states (tenant, case_id, version, outcome, rank) VALUES ('acme', 'never', 1, 'open', 1)"
    await query(clickhouse, insert)
    await rebuild(settings, "cases")
    assert await _derived(settings) == before
    assert await rows(clickhouse, STATES) == [{"case_id": f"c{number}", "version": 2} for number in range(5)]
    async with running(settings):
        await produce(settings, [case("c0", version=3)])
        await landed(settings, "cases", 11)
    assert (await rows(clickhouse, STATES))[0] == {"case_id": "c0", "version": 3}


@pytest.mark.parametrize("exchanged", [1, 2, 3])
async def test_a_rebuild_that_ended_between_exchanges_is_finished_by_the_next(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, exchanged: int
) -> None:
    """The table has changed places and what is derived from it has not, or in part: the next rebuild goes on from there."""
    await produce(settings, [case(f"c{number}") for number in range(5)])
    async with running(settings):
        await landed(settings, "cases", 5)
    before = await _derived(settings)
    exchange, done = rebuilding._Rebuild._exchange, 0

    async def exchange_some(self: rebuilding._Rebuild, name: str) -> None:
        nonlocal done
        await exchange(self, name)
        done += 1
        if done == exchanged:
            async with running(settings):  # a sink goes on with what is there now
                await produce(settings, [case("late")])
                await landed(settings, "cases", 6)
            raise asyncio.CancelledError

    with monkeypatch.context() as patched:
        patched.setattr(rebuilding._Rebuild, "_exchange", exchange_some)
        with pytest.raises(asyncio.CancelledError):
            await rebuild(settings, "cases")
    assert (await rebuild(settings, "cases")).finished_earlier
    assert await _derived(settings) == before
    names = [f"c{number}" for number in range(5)] + ["late"]
    assert [row["case_id"] for row in await rows(settings.clickhouse, STATES)] == names


async def _derived(settings: Settings) -> list[dict[str, object]]:
    """Names and comments of the tables that are derived from cases, and of what a rebuild may have left beside them."""
    sql = (
        "SELECT name, comment FROM system.tables WHERE database = currentDatabase() "
        "AND (name LIKE 'case%states%' OR name LIKE 'case%closings%' OR name LIKE 'cases%') ORDER BY name"
    )
    return [dict(row) for row in await rows(settings.clickhouse, sql, final=False)]


async def test_a_sink_that_runs_meanwhile_loses_nothing(settings: Settings) -> None:
    """Records come and land all the time while the table changes places: in the end each is a row, with FINAL once."""
    written = 0
    rebuilt = asyncio.Event()

    async def write() -> None:
        nonlocal written
        while not rebuilt.is_set() or written < 2_000:
            await produce(settings, [delivery(written + number) for number in range(100)], partition=(written // 100) % 2)
            written += 100

    async with running(with_sink(settings, flush_rows=50, flush_seconds=0.02)):
        writing = asyncio.create_task(write())
        await landed(settings, "deliveries", 500)
        for _ in range(2):
            await rebuild(settings, "deliveries")
        rebuilt.set()
        await writing

        async def complete() -> bool:
            return await row_count(settings, "deliveries", final=True) == written

        await wait_until(complete, DEADLINE, f"all {written} rows are there")
    assert list(await _tables(settings)) == ["deliveries"]
    assert len(await _bodies(settings)) == written
    assert await rows(settings.clickhouse, "SELECT count() AS n FROM deliveries_by_time") == [{"n": written}]


async def test_a_rebuild_that_ended_before_the_exchange_has_changed_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The live table is as it was, what is left beside it is named, and the next rebuild begins again."""
    await produce(settings, [delivery(number) for number in range(20)])
    async with running(settings):
        await landed(settings, "deliveries", 20)
    with monkeypatch.context() as patched:
        patched.setattr(rebuilding._Rebuild, "_keep", _ended)
        with pytest.raises(asyncio.CancelledError):
            await rebuild(settings, "deliveries")
    assert set(await _tables(settings)) == {"deliveries", "deliveries" + SHADOW}
    assert await row_count(settings, "deliveries") == 20
    done = await rebuild(settings, "deliveries")
    assert (done.from_topic, done.finished_earlier) == (20, False)
    assert set(await _tables(settings)) == {"deliveries"}


async def _ended(self: object, began: int) -> int:
    del self, began
    raise asyncio.CancelledError


async def test_a_rebuild_that_ended_behind_the_exchange_is_finished_by_the_next(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sink had put rows into the table that is no longer the live one: the next rebuild brings them back from the topic."""
    await produce(settings, [delivery(number) for number in range(20)])
    copy, keep = rebuilding._Rebuild._copy, rebuilding._Rebuild._keep
    comment = (await _tables(settings))["deliveries"]

    async def keep_and_be_overtaken(self: rebuilding._Rebuild, began: int) -> int:
        kept = await keep(self, began)
        await produce(settings, [delivery(20 + number) for number in range(20)])  # lands in the table that goes
        async with running(settings):
            await landed(settings, "deliveries", 40)
        return kept

    async def copy_once(self: rebuilding._Rebuild, into: Table, begin: dict[int, int]) -> tuple[int, dict[int, int]]:
        if begin:
            raise asyncio.CancelledError
        return await copy(self, into, begin)

    with monkeypatch.context() as patched:
        patched.setattr(rebuilding._Rebuild, "_keep", keep_and_be_overtaken)
        patched.setattr(rebuilding._Rebuild, "_copy", copy_once)
        with pytest.raises(asyncio.CancelledError):
            await rebuild(settings, "deliveries")
    await produce(settings, [delivery(40 + number) for number in range(20)])
    assert await row_count(settings, "deliveries", final=True) == 20
    async with connected(settings.clickhouse) as client:
        assert await unfinished(settings.clickhouse, client) == ["deliveries"]
    done = await rebuild(settings, "deliveries")
    assert done.finished_earlier
    assert len(await _bodies(settings)) == 60
    assert await _tables(settings) == {"deliveries": comment}


@pytest.mark.stack
async def test_the_command_can_be_killed_and_run_again(settings: Settings, tmp_path: Path) -> None:
    """`kyb-stream sink --rebuild` is SIGKILLed while the table beside grows; run again it is done, and says what it did."""
    values = new_configuration(bootstrap_servers=settings.kafka.bootstrap_servers, clickhouse_port=1, ingress_port=1)
    values["kafka"] = settings.kafka.model_dump(include={"bootstrap_servers", "topic_prefix", "partitions"})
    values["clickhouse"] = settings.clickhouse.model_dump(include={"url", "database"})
    config = tmp_path / "kyb-stream.toml"
    write_configuration(config, values, comment="Made by the tests.")
    await produce(settings, [delivery(number) for number in range(5_000)])
    async with running(settings):
        await landed(settings, "deliveries", 5_000)
    command = ("sink", "--rebuild", "deliveries", "--config", str(config))
    async with StuckProxy(settings.clickhouse.url, answered=0).listening() as proxy:
        assert isinstance(proxy, StuckProxy)
        process = Background(*command, log=tmp_path / "log", env={"KYB_STREAM_CLICKHOUSE__URL": proxy.url})
        await asyncio.wait_for(proxy.stuck.wait(), DEADLINE)  # its first insert
        assert "deliveries" + SHADOW in await _tables(settings)
        process.send(signal.SIGKILL)
        await process.ended()
        proxy.let_go()
    assert await row_count(settings, "deliveries", final=True) == 5_000
    done = await kyb_stream(*command)
    assert (done.exit_code, done.out) == (0, "deliveries: 5000 rows from the topic, 0 kept\n"), done.err
    assert await row_count(settings, "deliveries", final=True) == 5_000
    assert list(await _tables(settings)) == ["deliveries"]


async def test_an_unknown_table_is_a_usage_error(settings: Settings) -> None:
    """Before anything is asked of a server; the hint names the tables."""
    with pytest.raises(UsageError, match="no table 'nonsense'") as caught:
        await rebuild(settings, "nonsense")
    assert "deliveries, events, cases" in (caught.value.hint or "")


def test_marks_are_read_as_written() -> None:
    """Only from a comment of ours."""
    assert marks_of(MARKS + json.dumps({"0": 12, "7": 0})) == {0: 12, 7: 0}
    assert marks_of("What became of one delivery.") is None
