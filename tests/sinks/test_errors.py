from __future__ import annotations

import asyncio

import pytest
import structlog

from kybstream.errors import RunError
from kybstream.settings import Settings
from sinks.clickhouse import connected, in_our_words
from sinks.errors import CAUSES, Blame, NotNowError, RefusedError, cause_of
from sinks.query import query
from sinks.run import run_sink
from tests.sinks.making import delivery, rows
from tests.sinks.refusing_proxy import RefusingProxy
from tests.sinks.running import DEADLINE, landed, produce, row_count, running, with_sink
from tests.support.waiting import wait_until

NOT_NOW = [
    (252, "TOO_MANY_PARTS"),
    (242, "TABLE_IS_READ_ONLY"),
    (201, "QUOTA_EXCEEDED"),
    (159, "TIMEOUT_EXCEEDED"),
    (241, "MEMORY_LIMIT_EXCEEDED"),
]


async def test_the_names_are_those_of_clickhouse(settings: Settings) -> None:
    """Each code of ours has the name that ClickHouse gives it, and says what it means."""
    codes = ", ".join(map(str, CAUSES))
    found = await rows(settings.clickhouse, f"SELECT arrayJoin([{codes}]) AS code, errorCodeToName(code) AS name")
    assert {row["code"]: row["name"] for row in found} == {code: cause.name for code, cause in CAUSES.items()}
    assert all(cause.meaning for cause in CAUSES.values())
    assert all(cause.hint for cause in CAUSES.values() if cause.blame is Blame.SETUP)


def test_an_unlisted_code_stops_the_sink() -> None:
    """Waiting would hide it, and a record would be blamed without evidence."""
    assert cause_of(987_654).blame is Blame.SETUP
    assert cause_of(987_654).name == "CODE_987654"


async def test_what_clickhouse_cannot_do_now_is_sent_again_and_lands_once(settings: Settings) -> None:
    """Too many parts, read-only, quota, timeout, memory: the same token until it lands, a retry of each counted and told."""
    await query(settings.clickhouse, "SYSTEM STOP MERGES deliveries")
    for lands in (False, True):
        before = await row_count(settings, "deliveries")
        async with RefusingProxy(settings.clickhouse.url, NOT_NOW, lands=lands).listening() as proxy:
            assert isinstance(proxy, RefusingProxy)
            with structlog.testing.capture_logs() as logs:
                async with running(_behind(settings, proxy)):
                    await produce(settings, [delivery(before + number) for number in range(10)])
                    await wait_until(lambda: not proxy.errors, DEADLINE, "all errors were given")
                    await landed(settings, "deliveries", before + 10)
            told = [str(entry["error"]) for entry in logs if entry["event"] == "sink.insert_delayed"]
            assert "cannot answer now: it merges more slowly" in told[0]
            # Until the answer is clear nothing else of the partition is sent.
            assert len(set(proxy.refused)) == 1
    found = await rows(settings.clickhouse, "SELECT count() AS n, uniqExact(_offset) AS places FROM deliveries", final=False)
    assert found == [{"n": 20, "places": 20}]


@pytest.mark.parametrize(
    ("code", "name", "message", "hint"),
    [
        (516, "AUTHENTICATION_FAILED", "refuses user 'default': user or password is refused", "clickhouse.password"),
        (497, "ACCESS_DENIED", "the user lacks a grant", "grants"),
        (60, "UNKNOWN_TABLE", "ClickHouse refused", "kyb-stream migrate"),
        (9999, "SOMETHING_NEW", "ClickHouse refused: .*SOMETHING_NEW", ""),
    ],
)
async def test_what_no_retry_mends_stops_the_sink(settings: Settings, code: int, name: str, message: str, hint: str) -> None:
    """At once, with what to do; nothing is dead-lettered, and the records land when it is mended."""
    await produce(settings, [delivery(number) for number in range(5)])
    async with RefusingProxy(settings.clickhouse.url, [(code, name)]).listening() as proxy:
        with pytest.raises(RunError, match=message) as caught:
            await _run_until_it_ends(_behind(settings, proxy))
    assert hint in (caught.value.hint or "")
    assert caught.value.exit_code == 1
    async with running(settings):
        await landed(settings, "deliveries", 5)
    assert await row_count(settings, "dead_letters") == 0


async def test_errors_of_a_query_are_classified_too(settings: Settings) -> None:
    """`in_our_words` tells not now from never, whatever the statement is."""
    async with connected(settings.clickhouse) as client:
        with pytest.raises(RefusedError, match="no_such_table") as refused, in_our_words(settings.clickhouse):
            await client.command(f"INSERT INTO {settings.clickhouse.database}.no_such_table VALUES (1)")  # noqa: S608
        assert refused.value.cause.name == "UNKNOWN_TABLE"
    nobody = settings.clickhouse.model_copy(update={"url": "http://127.0.0.1:1"})
    with pytest.raises(NotNowError, match="cannot be reached") as away:
        async with connected(nobody):
            pass
    assert away.value.retriable
    assert away.value.cause == "NETWORK"


async def _run_until_it_ends(settings: Settings) -> None:
    """A sink that is expected to end by itself."""
    async with asyncio.timeout(DEADLINE):
        await run_sink(settings, stop=asyncio.Event())


def _behind(settings: Settings, proxy: object) -> Settings:
    assert isinstance(proxy, RefusingProxy)
    with_proxy = settings.clickhouse.model_copy(update={"url": proxy.url})
    return with_sink(settings.model_copy(update={"clickhouse": with_proxy}), flush_seconds=0.05)
