"""What the log of an ingress says of an outage of Kafka."""

from __future__ import annotations

from pathlib import Path

from deploy.embedded.noida import broker_child
from deploy.embedded.ports import free_port
from deploy.embedded.supervisor import Supervisor
from tests.ingress.harness import KYB_TOKEN, make_topics, settings_for
from tests.ingress.processes import Client, ingress_process, write_config
from tests.support.waiting import wait_until

KYB = f"/webhooks/kyb/{KYB_TOKEN}"


async def test_an_outage_is_a_few_lines(tmp_path: Path, topic_prefix: str) -> None:
    """While webhooks are spooled, the broker's client fails again and again: that is told once when it begins."""
    config, port = tmp_path / "config.toml", free_port()
    write_config(config, bootstrap=f"127.0.0.1:{port}", prefix=topic_prefix, spool_dir=str(tmp_path / "spool"))
    async with ingress_process(config) as ingress:
        async with Supervisor() as supervisor:
            await supervisor.start(broker_child(tmp_path / "data", port, log_path=tmp_path / "broker.log"))
            await make_topics(settings_for(f"127.0.0.1:{port}", topic_prefix).kafka)
            await ingress.wait_ready()
            await wait_until(lambda: ingress.events("kafka_connected"), 20, "Kafka is there")
        before = lines(ingress.log)
        client = await Client.connect(ingress.port)

        async def told() -> bool:
            assert (await client.request("POST", KYB, b"{}")).status == 200
            return bool(ingress.events("outage_began"))

        await wait_until(told, 20, "the outage is told")
        told_by = lines(ingress.log)
        for _ in range(20):
            await told()
        await client.close()
        assert told_by - before < 8
        assert lines(ingress.log) - told_by < 3


def lines(log: Path) -> int:
    """How many it has."""
    return len(log.read_text(encoding="utf-8").splitlines())
