from __future__ import annotations

import json
import re

import structlog

from kybstream.settings import Settings
from schemas import topics
from sinks.liveness import Liveness
from sinks.metrics import Standing
from tests.sinks.making import delivery, rows
from tests.sinks.refusing_proxy import RefusingProxy
from tests.sinks.running import DEADLINE, landed, produce
from tests.sinks.stuck_proxy import StuckProxy
from tests.sinks.watching import answers, metrics_of, page, watched
from tests.support.waiting import wait_until

PLACE = ("kyb.deliveries.v1", 0)


async def test_the_metrics_say_what_was_done(settings: Settings) -> None:
    """Rows and inserts by table, rejected records by reason, retries by ClickHouse's error name, lag, age and health."""
    await produce(settings, [*(delivery(number) for number in range(20)), b"?"], topics.DELIVERIES)
    place = f"0,{settings.topic(topics.DELIVERIES)}"
    async with RefusingProxy(settings.clickhouse.url, [(252, "TOO_MANY_PARTS")]).listening() as proxy:
        behind = settings.model_copy(update={"clickhouse": settings.clickhouse.model_copy(update={"url": proxy.url})})
        async with watched(behind) as url:
            await wait_until(lambda: answers(f"{url}/readyz", 200), DEADLINE, "it is ready")
            await landed(settings, "deliveries", 20)
            await landed(settings, "dead_letters", 1)
            assert (await metrics_of(url, "kyb_sink_rows_total")) == {"deliveries": 20, "dead_letters": 1}
            assert (await metrics_of(url, "kyb_sink_rejected_total")) == {"not_avro,deliveries": 1}
            assert (await metrics_of(url, "kyb_sink_retries_total")) == {"TOO_MANY_PARTS": 1}
            assert (await metrics_of(url, "kyb_sink_insert_seconds_count"))["deliveries"] >= 1

            async def caught_up() -> bool:
                return (await metrics_of(url, "kyb_sink_lag"))[place] == 0

            await wait_until(caught_up, DEADLINE, "there is no lag")
            assert 0 <= (await metrics_of(url, "kyb_sink_last_insert_age_seconds"))[""] < DEADLINE
            assert (await metrics_of(url, "kyb_sink_buffered_bytes"))[""] == 0
            assert (await metrics_of(url, "kyb_sink_paused"))[place] == 0
            assert (await metrics_of(url, "kyb_sink_stalled_seconds"))[""] == 0
            assert await page(f"{url}/healthz") == (200, "ok")


async def test_a_clickhouse_that_hangs_is_told_waited_for_and_needs_no_restart(settings: Settings) -> None:
    """Reading pauses, `/healthz` says which partition waits; when ClickHouse goes on, so does the sink, and rows land once."""
    await produce(settings, [delivery(number) for number in range(300)])
    topic = settings.topic(topics.DELIVERIES)
    async with StuckProxy(settings.clickhouse.url, 1).listening() as proxy:
        assert isinstance(proxy, StuckProxy)
        behind = settings.model_copy(update={"clickhouse": settings.clickhouse.model_copy(update={"url": proxy.url})})
        with structlog.testing.capture_logs() as logs:
            async with watched(behind, flush_rows=10, stalled_after_seconds=0.5) as url:
                told = re.compile(rf"topic {topic} partition 0: 290 records wait and nothing landed for \d+ s")

                async def is_told() -> bool:
                    status, text = await page(f"{url}/healthz")
                    return status == 503 and told.fullmatch(json.loads(text)["reason"]) is not None  # not: starting

                await wait_until(is_told, DEADLINE, "it is told")
                assert (await metrics_of(url, "kyb_sink_lag"))[f"0,{topic}"] == 290
                assert (await metrics_of(url, "kyb_sink_paused"))[f"0,{topic}"] == 1
                assert (await metrics_of(url, "kyb_sink_stalled_seconds"))[""] > 0.5
                assert (await metrics_of(url, "kyb_sink_buffered_bytes"))[""] > 0
                await produce(settings, [delivery(number) for number in range(300, 350)])

                async def lag_seen() -> bool:
                    return (await metrics_of(url, "kyb_sink_lag"))[f"0,{topic}"] == 340

                await wait_until(lag_seen, DEADLINE, "the lag grows though nothing is read")
                proxy.let_go()
                await landed(settings, "deliveries", 350)
                await wait_until(lambda: answers(f"{url}/healthz", 200), DEADLINE, "it is well again")
    assert [entry["event"] for entry in logs if entry["event"] in {"stalled", "stall_ended", "giving_up"}][:1] == ["stalled"]
    assert not [entry for entry in logs if entry["event"] == "giving_up"]
    (row,) = await rows(settings.clickhouse, "SELECT count() AS n, uniqExact(_offset) AS places FROM deliveries", final=False)
    assert row == {"n": 350, "places": 350}


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_is_stuck_and_what_is_not() -> None:
    """No lag, or anything that lands, is well; a lag without landing, an unknown start, a still loop, a long start are not."""
    clock = _Clock()
    liveness = Liveness(stalled_after=10, clock=clock)

    def after(seconds: float, phase: str = "running", **standings: Standing) -> str | None:
        for _ in range(int(seconds)):
            clock.now += 1
            liveness.turn(phase, {(topic, 0): standing for topic, standing in standings.items()})
        stall = liveness.stall()
        return stall.reason if stall else None

    assert after(9, "starting") is None
    assert "starting for 11 s" in (after(2, "starting") or "")
    assert after(50) is None, "a sink without partitions waits for nothing"
    assert after(50, a=Standing(0, 5)) is None
    assert after(9, a=Standing(7, 5)) is None
    assert after(1, a=Standing(7, 6)) is None
    assert after(10, a=Standing(7, 6)) is None
    busy = Standing(0, 1)
    assert after(1, a=Standing(7, 6), b=busy) == "topic a partition 0: 7 records wait and nothing landed for 11 s"
    assert after(1, b=busy) is None, "it went to another process"
    assert after(11, a=Standing(None, 0)) is None
    assert "it is not known where to go on" in (after(1, a=Standing(None, 0)) or "")
    assert after(1, "stopping", a=Standing(None, 0)) is None
    assert after(1) is None
    clock.now += 11
    assert "the event loop has not turned for 11 s" in (after(0) or "")
