"""`kyb-stream dev`: starts, greets, stops and starts again, and leaves nothing behind however it ends."""

from __future__ import annotations

import asyncio
import base64
import signal
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from deploy.embedded.configuration import new_configuration, write_configuration
from deploy.embedded.readiness import accepts_connections
from kybstream.errors import KybStreamError
from kybstream.operations.topic_reader import ReadRecord, read_topic
from kybstream.settings import load_settings
from schemas.codec import decode
from schemas.records import WebhookDelivery
from schemas.topics import RAW
from sinks.query import Value, query
from tests.cli.commands import failed_clearly
from tests.cli.starting_dev import StartDev
from tests.end_to_end.bodies import kyb
from tests.support.body_keys import in_clear
from tests.support.commands import Background, Finished, environment, kyb_stream
from tests.support.stack import COMPONENTS, GREETING, Ports, post, write_stack_configuration
from tests.support.waiting import wait_until

pytestmark = pytest.mark.stack

STOP_SECONDS = 10.0


async def stopped(process: Background, children: list[psutil.Process], ports: Ports) -> int:
    """Waits until `dev` has ended; nothing it had started may be left. Returns the exit code."""
    code = await process.ended()
    left = [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    assert left == []
    for port in (ports.kafka, ports.clickhouse, ports.ingress):
        assert not await accepts_connections("127.0.0.1", port)
    return code


def told(process: Background) -> Finished:
    """What `dev` told, as of a finished command."""
    return Finished(process.exit_code or 0, "", process.output)


async def row(ports: Ports, sql: str) -> list[Value]:
    """The first row of an answer; empty while there is none."""
    settings = load_settings(None, ports.overrides)
    try:
        answer = await query(settings.clickhouse, sql)
    except KybStreamError:
        return []
    return list(answer.rows[0]) if answer.rows else []


async def test_dev_greets_stops_on_ctrl_c_and_finds_its_data_again(tmp_path: Path, dev: StartDev, ports: Ports) -> None:
    """What it prints works when pasted; Ctrl-C stops all within 10 s; the next start knows every case and every event."""
    config = write_stack_configuration(tmp_path / "kyb-stream.toml", ports)
    arguments = ("--data-dir", "data", "--config", str(config))
    first = dev(*arguments)
    greeting = await first.printed(GREETING)
    urls = [f"http://127.0.0.1:{ports.ingress}/webhooks/{name}/token-of-the-source-{name}" for name in ("kyb", "kyc")]
    assert all(f"{url}\n" in greeting for url in urls)
    password = f"password in {config}"
    assert f"ClickHouse: http://127.0.0.1:{ports.clickhouse} (user default, {password}, database kyb)\n" in greeting
    assert len({child.pid for child in map(first.child, COMPONENTS)}) == len(COMPONENTS)

    [curl] = [line.strip() for line in greeting.splitlines() if line.startswith("  curl ")]
    [ask] = [line.strip() for line in greeting.splitlines() if line.startswith("  kyb-stream sql ")]
    sent = await paste(curl)
    assert sent.startswith("HTTP/1.1 200 OK")
    assert sent.endswith("ok")
    # A case whose body the next start gets again.
    again = kyb("kept-case", "service_initiated")
    assert (await post(urls[0], again)).status == 200

    async def asked() -> bool:
        return "667ab56f0e4e6520880" in (shown := await paste(ask)) and "kept-case" in shown

    await wait_until(asked, 10, "both cases are shown")

    taken = await kyb_stream("dev", *arguments, cwd=tmp_path)
    assert failed_clearly(taken, 1, f"data is in use by process {first.pid}")

    children = first.children()
    began = time.monotonic()
    first.send(signal.SIGINT)
    assert await stopped(first, children, ports) == 0
    assert time.monotonic() - began < STOP_SECONDS
    assert "Traceback" not in first.output
    assert first.output.endswith("stopping\n")

    second = dev(*arguments)
    await second.printed(GREETING)
    assert await row(ports, "SELECT outcome, version FROM current_cases WHERE case_id = 'kept-case'") == ["open", 1]
    delivery_id = (await post(urls[0], again)).delivery_id

    async def judged() -> bool:
        return await row(ports, f"SELECT verdict FROM deliveries WHERE delivery_id = '{delivery_id}'") == ["duplicate"]  # noqa: S608

    await wait_until(judged, 5, "the duplicate is known as one")
    children = second.children()
    second.send(signal.SIGTERM)
    assert await stopped(second, children, ports) == 0


async def paste(line: str) -> str:
    """What bash shows for a line."""
    env = environment()
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
    done = await asyncio.to_thread(
        subprocess.run, ["bash", "-c", line], check=True, capture_output=True, text=True, env=env, timeout=30
    )
    return done.stdout


async def test_dev_writes_a_configuration_of_its_own_and_stops_when_a_child_dies(
    tmp_path: Path, dev: StartDev, ports: Ports
) -> None:
    """Random tokens and a key, for its owner only, used from then on: no body lies in Kafka in clear. A dead child ends all."""
    first = dev("--data-dir", "data", **ports.overrides)
    greeting = await first.printed(GREETING)
    path = tmp_path / "data" / "kyb-stream.toml"
    assert greeting.startswith("wrote data/kyb-stream.toml\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert (path.parent / ".gitignore").read_text() == "*\n"
    settings = load_settings(path, {})
    assert (settings.ingress.port, settings.clickhouse.url) == (8080, "http://127.0.0.1:8123")
    assert settings.kafka.bootstrap_servers == "127.0.0.1:9092"
    tokens = [source.token for source in settings.sources]
    assert len({*tokens, settings.clickhouse.password.reveal_text()}) == 3
    assert len(settings.clickhouse.password.reveal()) == 32
    url = f"http://127.0.0.1:{ports.ingress}/webhooks/kyb/{tokens[0]}"
    assert url in greeting
    assert "in clear" not in greeting
    body = kyb("x", "service_initiated")
    assert (await post(url, body)).status == 200
    [record] = await raw_records(ports)
    assert not any(piece in (record.value or b"") for piece in pieces(body))
    assert in_clear(decode(record.value or b"", WebhookDelivery), settings).body == body

    children = first.children()
    first.child("sink").kill()
    assert await stopped(first, children, ports) == 1
    assert failed_clearly(told(first), 1, "the sink ended with signal SIGKILL; everything was stopped")
    assert "hint: Its log is " in first.output

    # The next start takes the same file; it stops before anything runs, since a port is in use.
    async with occupied(ports.ingress):
        second = dev("--data-dir", "data", **ports.overrides)
        assert await stopped_before_it_ran(second) == 1
    assert "wrote" not in second.output
    assert [source.token for source in load_settings(path, {}).sources] == tokens


async def raw_records(ports: Ports) -> list[ReadRecord]:
    """What the raw topic holds."""
    settings = load_settings(None, ports.overrides)
    return [record async for record in read_topic(settings.kafka, settings.topic(RAW))]


def pieces(body: bytes) -> set[bytes]:
    """Every stretch of eight bytes of a body: none of them is in a cipher by chance."""
    return {body[start : start + 8] for start in range(len(body) - 7)}


async def test_dev_goes_on_with_a_configuration_without_a_key_and_says_so(tmp_path: Path, dev: StartDev, ports: Ports) -> None:
    """As older versions wrote it: bodies lie in clear, as before, until somebody adds a key or demands one."""
    values = new_configuration(bootstrap_servers="127.0.0.1:9092", clickhouse_port=8123, ingress_port=8080)
    del values["encryption"]
    path = tmp_path / "data" / "kyb-stream.toml"
    write_configuration(path, values, comment="Made by an older version.")
    old = dev("--data-dir", "data", **ports.overrides)
    assert f"Bodies lie in Kafka in clear: there is no [[encryption.keys]] in {path}.\n" in await old.printed(GREETING)
    body = kyb("x", "service_initiated")
    token = load_settings(path, {}).sources[0].token
    url = f"http://127.0.0.1:{ports.ingress}/webhooks/kyb/{token}"
    assert (await post(url, body)).status == 200
    [record] = await raw_records(ports)
    delivery = decode(record.value or b"", WebhookDelivery)
    assert (delivery.body, delivery.body_key_id) == (body, None)

    async def judged() -> bool:
        return await row(ports, "SELECT verdict FROM deliveries") == ["new"]

    await wait_until(judged, 10, "the delivery is judged")
    children = old.children()
    old.send(signal.SIGTERM)
    assert await stopped(old, children, ports) == 0

    # With a key in the same file, what lies there in clear is still read, and what comes is encrypted.
    key = base64.b64encode(bytes(32)).decode()
    with path.open("a") as file:
        file.write(f'\n[[encryption.keys]]\nid = "k1"\nkey = "{key}"\n')
    new = dev("--data-dir", "data", **ports.overrides)
    assert "in clear" not in await new.printed(GREETING)
    assert (await post(url, body)).status == 200
    assert [decode(each.value or b"", WebhookDelivery).body_key_id is None for each in await raw_records(ports)] == [
        True,
        False,
    ]

    async def again() -> bool:
        return await row(ports, "SELECT groupArray(verdict) FROM (SELECT verdict FROM deliveries ORDER BY received_at)") == [
            ["new", "duplicate"]
        ]

    await wait_until(again, 10, "the second is known as a duplicate")


async def test_dev_stops_where_a_key_is_demanded_and_there_is_none(tmp_path: Path, dev: StartDev, ports: Ports) -> None:
    """`required = true` in so many words is not let go."""
    values = new_configuration(bootstrap_servers="127.0.0.1:9092", clickhouse_port=8123, ingress_port=8080)
    values["encryption"] = {"required": True}
    write_configuration(tmp_path / "data" / "kyb-stream.toml", values, comment="Made by the tests.")
    process = dev("--data-dir", "data", **ports.overrides)
    assert await process.ended(30) == 1
    assert failed_clearly(told(process), 1, "ingress ended with exit code 2: error: encryption.keys is empty")


async def test_dev_leaves_nothing_when_it_is_killed(tmp_path: Path, dev: StartDev, ports: Ports) -> None:
    """SIGKILL gives it no chance to stop anything; its children end all the same."""
    config = write_stack_configuration(tmp_path / "kyb-stream.toml", ports)
    process = dev("--data-dir", "data", "--config", str(config))
    await process.printed("starting the ingress")
    children = process.children()
    assert len(children) >= 2
    process.send(signal.SIGKILL)
    await process.ended()

    def gone() -> bool:
        return not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)

    await wait_until(gone, STOP_SECONDS, "no child is left")


@pytest.mark.parametrize("which", ["ingress", "clickhouse", "kafka"])
async def test_dev_names_a_port_in_use(tmp_path: Path, dev: StartDev, ports: Ports, which: str) -> None:
    """Before anything is left running."""
    config = write_stack_configuration(tmp_path / "kyb-stream.toml", ports)
    port = getattr(ports, which)
    async with occupied(port):
        process = dev("--data-dir", "data", "--config", str(config))
        assert await stopped_before_it_ran(process) == 1
    purpose = {"ingress": "the ingress", "clickhouse": "ClickHouse", "kafka": "the embedded broker"}[which]
    assert failed_clearly(told(process), 1, f"port {port} for {purpose}", "is in use")


async def test_dev_names_a_child_that_does_not_start(tmp_path: Path, dev: StartDev, ports: Ports) -> None:
    """Here the worker, whose folder is a file; everything that had started is stopped."""
    config = write_stack_configuration(tmp_path / "kyb-stream.toml", ports)
    data = tmp_path / "data"
    data.mkdir()
    (data / "worker").write_text("in the way")
    process = dev("--data-dir", "data", "--config", str(config))
    await process.printed("starting the ingress, the worker and the sink")
    children = process.children()
    assert await stopped(process, children, ports) == 1
    assert failed_clearly(told(process), 1, "worker ended with exit code 1: error: ", "worker")
    assert f"hint: its log is {data / 'logs' / 'worker.log'}" in process.output


async def test_dev_refuses_addresses_of_other_machines(tmp_path: Path) -> None:
    """It could not listen there."""
    config = write_stack_configuration(tmp_path / "kyb-stream.toml", Ports.free())
    env = {"KYB_STREAM_CLICKHOUSE__URL": "http://clickhouse.example:8123"}
    done = await kyb_stream("dev", "--data-dir", "data", "--config", str(config), env=env, cwd=tmp_path)
    assert failed_clearly(done, 2, "clickhouse.url is not an address of that kind")


async def stopped_before_it_ran(process: Background) -> int:
    """Waits for the end of a `dev` that cannot start."""
    return await process.ended(30)


@asynccontextmanager
async def occupied(port: int) -> AsyncIterator[None]:
    """Somebody else listens on a port."""
    async with await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", port):
        yield
