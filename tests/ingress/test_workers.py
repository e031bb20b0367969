"""Several ingress processes on one port, without Kafka: their deliveries are spooled."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from kybstream.folder_lock import lock_folder
from tests.ingress.harness import KYB_TOKEN
from tests.ingress.processes import (
    START_SECONDS,
    Client,
    ask,
    free_ports,
    ingress_process,
    is_alive,
    kill,
    write_config,
)
from tests.support.waiting import wait_until

pytestmark = pytest.mark.stack

KYB = f"/webhooks/kyb/{KYB_TOKEN}"
BODY = b'{"service_id": "case"}'
ACCEPTED = 'kyb_ingress_requests_total{outcome="accepted",source="kyb"}'


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Where the configuration goes."""
    return tmp_path / "kyb-stream.toml"


async def test_workers_share_a_port_and_each_has_its_own_metrics_and_spool(config: Path) -> None:
    """On a free port of an IPv6 address connections are spread; each worker has a spool and figures of its own.

    The port for metrics takes no webhooks, and shows nothing else.
    """
    metrics = free_ports(2)
    write_config(config, host="::1", metrics_port=metrics, spool_dir=str(config.parent / "spool"))
    async with ingress_process(config, "--workers", "2") as ingress:
        await ingress.wait_ready()
        assert len(ingress.workers) == 2
        answers = [await ask(ingress.port, "POST", KYB, BODY, host="::1") for _ in range(40)]
        assert {answer.status for answer in answers} == {200}
        pages = [(await ask(metrics + index, "GET", "/metrics", host="::1")).body.decode() for index in range(2)]
        counts = [float(page.partition(f"{ACCEPTED} ")[2].partition("\n")[0]) for page in pages]
        assert sum(counts) == 40
        assert min(counts) > 0
        assert (await ask(metrics, "GET", "/readyz", host="::1")).body.startswith(b"degraded")
        assert (await ask(metrics, "GET", "/openapi.json", host="::1")).status == 404
        assert (await ask(metrics + 1, "POST", KYB, BODY, host="::1")).status == 404
        assert await ingress.end() == 0
    assert sorted(each.name for each in (config.parent / "spool").iterdir()) == ["0", "1"]
    assert not ingress.ready.exists()


async def test_a_worker_that_dies_is_started_again_and_nobody_waits_for_it(config: Path) -> None:
    """After a SIGKILL the other worker lets in who comes to the dead one's door, long before its successor serves."""
    write_config(config, spool_dir=str(config.parent / "spool"))
    async with ingress_process(config, "--workers", "2") as ingress:
        await ingress.wait_ready()
        worker = min(ingress.workers)
        kill(worker)
        await wait_until(lambda: not is_alive(worker), START_SECONDS, "it is dead")
        statuses = {(await ask(ingress.port, "POST", KYB, BODY)).status for _ in range(30)}
        assert statuses == {200}
        assert len(ingress.events("ingress_worker_ready")) == 2, "they have waited for the successor"
        await wait_until(lambda: len(ingress.events("ingress_worker_ready")) == 3, START_SECONDS, "the successor serves")
        assert len(ingress.workers) == 2
        assert worker not in ingress.workers
        assert [event["code"] for event in ingress.events("ingress_worker_ended")] == [-9]
        assert await ingress.end() == 0


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_workers_end_gracefully_however_their_parent_ends(config: Path, how: signal.Signals) -> None:
    """A request under way is answered, and its connection closed; then no process is left, SIGKILL of the parent included."""
    write_config(config, spool_dir=str(config.parent / "spool"))
    async with ingress_process(config, "--workers", "2") as ingress:
        await ingress.wait_ready()
        workers = ingress.workers
        clients = [await Client.connect(ingress.port) for _ in range(8)]
        rests = [client.send("POST", KYB, BODY, hold=5) for client in clients]
        late = await Client.connect(ingress.port)
        ingress.process.send_signal(how)
        await wait_until(lambda: len(ingress.events("ingress_left_port")) == 2, START_SECONDS, "both have left the port")
        for client, rest in zip(clients, rests, strict=True):
            client.send_more(rest)
            answer = await client.answer()
            assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert (await late.request("POST", KYB, BODY)).status == 200, "it was let in, so it is heard"
        for client in (*clients, late):
            await client.close()
        code = await ingress.process.wait()
        assert code == (-9 if how == signal.SIGKILL else 0)
        await wait_until(lambda: not any(map(is_alive, workers)), START_SECONDS, "its workers have ended")
        with pytest.raises(ConnectionRefusedError):
            await Client.connect(ingress.port)


async def test_what_keeps_workers_from_starting_is_said_once(config: Path) -> None:
    """A wrong setting and a spool in use end the parent with the worker's own exit code and message."""
    write_config(config, needs_key=True)
    async with ingress_process(config, "--workers", "3") as ingress:
        assert await ingress.process.wait() == 2
    text = ingress.log.read_text(encoding="utf-8")
    assert text.count("error: ") == 1
    assert "encryption.keys is empty" in text
    write_config(config, spool_dir=str(config.parent / "spool"))
    with lock_folder(config.parent / "spool" / "1"):
        async with ingress_process(config, "--workers", "2") as ingress:
            assert await ingress.process.wait() == 1
    text = ingress.log.read_text(encoding="utf-8")
    assert text.count("error: ") == 1
    assert "spool/1 is in use by process" in text
    assert not ingress.ready.exists()


async def test_a_port_in_use_is_an_error_also_for_workers(config: Path) -> None:
    """Workers share their port with each other, not with an ingress that was started a second time by accident."""
    write_config(config, port=free_ports(1))
    async with ingress_process(config, "--workers", "2") as first:
        await first.wait_ready()
        async with ingress_process(config, "--workers", "2", name="second") as second:
            assert await second.process.wait() == 1
        assert f"error: port {first.port} for the ingress is in use" in second.log.read_text(encoding="utf-8")


async def test_a_restart_reads_the_configuration_again_and_refuses_a_wrong_one(config: Path) -> None:
    """SIGHUP: each worker is a new process, with the new token. A configuration that is wrong changes nothing."""
    spool, token = str(config.parent / "spool"), "another-token-of-thirty-characters"
    write_config(config, spool_dir=spool)
    async with ingress_process(config, "--workers", "2") as ingress:
        await ingress.wait_ready()
        before = ingress.workers
        write_config(config, spool_dir=spool, needs_key=True)
        ingress.process.send_signal(signal.SIGHUP)
        await wait_until(lambda: ingress.events("ingress_restart_refused"), START_SECONDS, "it is refused")
        assert ingress.workers == before
        assert (await ask(ingress.port, "POST", KYB, BODY)).status == 200
        write_config(config, spool_dir=spool, token=token)
        ingress.process.send_signal(signal.SIGHUP)
        await wait_until(lambda: ingress.events("ingress_restarted"), START_SECONDS, "all are renewed")
        assert not ingress.workers & before
        for _ in range(10):
            assert (await ask(ingress.port, "POST", KYB, BODY)).status == 404
            assert (await ask(ingress.port, "POST", f"/webhooks/kyb/{token}", BODY)).status == 200
        assert await ingress.end() == 0
