"""File descriptors: how many connections they leave room for, and what happens when there are none."""

from __future__ import annotations

import asyncio
import resource
from pathlib import Path

import pytest

from ingress.descriptors import KEPT_FREE, LEAST_CONNECTIONS, connections_within
from tests.ingress.connecting import KYB
from tests.ingress.processes import Client, ingress_process, write_config
from tests.support.waiting import wait_until


def test_the_bound_on_connections_keeps_descriptors_free() -> None:
    """As many as are wanted where the limit allows, fewer where it does not, and never none."""
    assert connections_within(10_000, 20, 2048) == 2048
    assert connections_within(256, 20, 2048) == 256 - 20 - KEPT_FREE
    assert connections_within(64, 20, 2048) == LEAST_CONNECTIONS


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="changes the limit of another process: Linux only")
async def test_out_of_descriptors_it_says_so_and_goes_on(noida_broker: str, topic_prefix: str, tmp_path: Path) -> None:
    """The limit is raised at the start. When it is reached all the same, who comes waits, and idle connections make room."""
    config = tmp_path / "config.toml"
    write_config(config, bootstrap=noida_broker, prefix=topic_prefix, spool_dir=str(tmp_path / "spool"))
    async with ingress_process(config) as ingress:
        await ingress.wait_ready()
        pid = ingress.process.pid
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        assert soft >= min(hard, 2048)
        idle = [await Client.connect(ingress.port) for _ in range(3)]
        first = await Client.connect(ingress.port)
        assert (await first.request("POST", KYB, b"{}")).status == 200
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (10, hard))
        late = await Client.connect(ingress.port)
        late.send("POST", KYB, b"{}")
        await wait_until(lambda: ingress.events("ingress_accept_failed"), 10, "the failure is in the log")
        assert ingress.events("ingress_accept_failed")[0]["error"] == "EMFILE"
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
        async with asyncio.timeout(10):
            assert (await late.answer()).status == 200
            assert 'kyb_ingress_accept_failures_total{error="EMFILE"}' in (await late.request("GET", "/metrics")).body.decode()
        for each in (*idle, first, late):
            await each.close()


async def test_more_idle_connections_than_descriptors_stop_no_webhook(
    noida_broker: str, topic_prefix: str, tmp_path: Path
) -> None:
    """200 of them where 128 descriptors are allowed: webhooks are answered, and the log says that there is less room."""
    config = tmp_path / "config.toml"
    write_config(config, bootstrap=noida_broker, prefix=topic_prefix)
    async with ingress_process(config, descriptors=128) as ingress:
        await ingress.wait_ready()
        assert ingress.events("ingress_connections_limited")[0]["descriptors"] == 128
        idle = [await Client.connect(ingress.port) for _ in range(200)]
        for _ in range(5):
            client = await Client.connect(ingress.port)
            async with asyncio.timeout(10):
                assert (await client.request("POST", KYB, b"{}")).status in {200, 503}  # 503: Kafka is not connected yet
            await client.close()
        assert not ingress.events("ingress_accept_failed")
        for each in idle:
            await each.close()
