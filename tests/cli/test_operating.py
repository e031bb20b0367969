"""`migrate`, `simulate`, `reconcile` against the running stack, and `embedded` servers alone."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from pathlib import Path

import pytest

from deploy.embedded.ports import free_port
from deploy.embedded.readiness import http_ok, kafka_answers
from kybstream.settings import load_settings
from sinks.query import query
from tests.cli.commands import failed_clearly
from tests.cli.one_process import run_each, run_with
from tests.end_to_end.bodies import kyb, send
from tests.support.commands import Background, kyb_stream
from tests.support.stack import RunningStack
from tests.support.waiting import wait_until

TOPICS_AND_CHANGELOGS = 11


@pytest.mark.stack
async def test_migrate_makes_everything_once(stack: RunningStack, tmp_path: Path) -> None:
    """The second run has nothing to do; another number of partitions is refused."""
    name = f"again_{tmp_path.name}"
    env = {
        "KYB_STREAM_CONFIG": str(stack.config_path),
        "KYB_STREAM_KAFKA__TOPIC_PREFIX": f"{name}.",
        "KYB_STREAM_KAFKA__PARTITIONS": "2",
        "KYB_STREAM_WORKER__GROUP": name,
        "KYB_STREAM_CLICKHOUSE__DATABASE": name,
    }
    first, second = await asyncio.to_thread(run_each, [["migrate"], ["migrate"]], env=env)
    assert (first.exit_code, first.err) == (0, "")
    made = first.out.splitlines()
    assert sum(line.startswith("topic ") and line.endswith(": made") for line in made) == TOPICS_AND_CHANGELOGS
    assert "ClickHouse 0001_deliveries: applied" in made

    assert (second.exit_code, second.out, second.err) == (0, "nothing to do\n", "")

    [other] = await asyncio.to_thread(run_each, [["migrate"]], env=env | {"KYB_STREAM_KAFKA__PARTITIONS": "3"})
    assert failed_clearly(other, 1, "has 2 partitions, kafka.partitions is 3")


@pytest.mark.stack
async def test_simulate_plays_both_providers_and_all_is_accounted_for(stack: RunningStack) -> None:
    """Everything planned is accepted, and afterwards `reconcile` balances, as text and as JSON."""
    config = ("--config", str(stack.only_acme_path))
    played = await kyb_stream("simulate", "--cases", "10", "--rate", "300", "--seed", "3", *config)
    assert played.exit_code == 0, played
    told = re.fullmatch(r"(\d+) deliveries planned, (\d+) requests, (\d+) accepted, 0 given up\n", played.out)
    assert told
    assert told[1] == told[2] == told[3]
    assert int(told[1]) > 40

    text, as_json = await run_with(stack, ["reconcile"], ["reconcile", "--json"])
    assert (text.exit_code, text.out.splitlines()[-1]) == (0, "every delivery is accounted for")
    account = json.loads(as_json.out)
    assert (as_json.exit_code, account["balanced"]) == (0, True)
    assert account["raw"] == account["judged"] == sum(account["landed"].values()) >= int(told[1])
    assert f"raw topic:  {account['raw']} deliveries" in text.out


@pytest.mark.stack
async def test_simulate_gives_up_at_once_on_a_wrong_token(stack: RunningStack) -> None:
    """The providers would go on for days; a person with a wrong configuration should not wait."""
    env = {"KYB_STREAM_CONFIG": str(stack.only_acme_path), "KYB_STREAM_SOURCES__0__TOKEN": "x" * 30}
    done = await kyb_stream("simulate", "--cases", "20", "--rate", "500", env=env)
    assert failed_clearly(done, 1, "does not know the address of the kyb-service source (404)")
    assert "x" * 30 not in done.err


@pytest.mark.stack
async def test_reconcile_names_a_delivery_that_is_not_judged_yet(stack: RunningStack, case_id: str) -> None:
    """With the worker standing still the delivery is missing; when it goes on, all balances."""
    worker = stack.process.child("worker")
    worker.suspend()
    try:
        delivery_id = await send(stack, "kyb", kyb(case_id, "service_initiated"))
        done = await stack.kyb_stream("reconcile", "--wait", "0")
    finally:
        worker.resume()
    assert (done.exit_code, done.err) == (1, "")
    assert f"wrong: 1 in the raw topic, but not judged: {delivery_id}\n" in done.out
    assert f"wrong: 1 in the raw topic, but not in ClickHouse: {delivery_id}\n" in done.out
    assert (await stack.kyb_stream("reconcile")).exit_code == 0


@pytest.mark.stack
async def test_reconcile_names_rows_that_are_missing_doubled_or_unknown(stack: RunningStack, case_id: str) -> None:
    """Whatever somebody does to the table by hand is found, and named by delivery."""
    gone = await send(stack, "kyb", kyb(case_id, "service_initiated"))
    twice = await send(stack, "kyb", kyb(case_id, "service_resolved"))
    await wait_until(lambda: _both_landed(stack, gone, twice), 5, "both have landed")
    clickhouse = stack.settings.clickhouse
    unknown = f"{gone[:-4]}0000"
    await query(clickhouse, "CREATE TABLE kept AS deliveries")
    copy = "INSERT INTO deliveries SELECT * REPLACE ('{}' AS {}) FROM (SELECT * FROM deliveries WHERE {})"
    is_gone, is_twice = f"delivery_id = '{gone}'", f"delivery_id = '{twice}'"
    try:
        await query(clickhouse, "INSERT INTO kept SELECT * FROM deliveries WHERE " + is_gone)  # noqa: S608 (our own)
        await query(clickhouse, copy.format(unknown, "delivery_id", is_gone))
        await query(clickhouse, copy.format("somebody-else", "tenant", is_twice))
        await query(clickhouse, "DELETE FROM deliveries WHERE " + is_gone)  # noqa: S608 (our own)
        done = await stack.kyb_stream("reconcile", "--wait", "0")
        assert (done.exit_code, done.err) == (1, "")
        assert [line for line in done.out.splitlines() if line.startswith("wrong: ")] == [
            f"wrong: 1 in the raw topic, but not in ClickHouse: {gone}",
            f"wrong: 1 more than once in ClickHouse: {twice}",
            f"wrong: 1 in ClickHouse, but not in the raw topic: {unknown}",
        ]
    finally:
        await query(clickhouse, f"DELETE FROM deliveries WHERE delivery_id = '{unknown}'")  # noqa: S608 (our own)
        await query(clickhouse, "DELETE FROM deliveries WHERE tenant = 'somebody-else'")
        await query(clickhouse, "INSERT INTO deliveries SELECT * FROM kept")
        await query(clickhouse, "DROP TABLE kept")
    assert (await stack.kyb_stream("reconcile", "--wait", "0")).exit_code == 0


async def _both_landed(stack: RunningStack, *delivery_ids: str) -> bool:
    return len(await stack.rows("deliveries", delivery_id=list(delivery_ids))) == len(delivery_ids)


async def test_the_embedded_clickhouse_runs_alone_and_refuses_what_is_in_use(tmp_path: Path) -> None:
    """It says where it answers, keeps folder and port for itself, and ends with exit code 0."""
    port, folder = free_port(), tmp_path / "data"
    server = Background(
        "embedded", "clickhouse", "--data-dir", str(folder), "--port", str(port), log=tmp_path / "clickhouse.log"
    )
    try:
        await server.printed(f"ClickHouse answers at http://127.0.0.1:{port}\n")
        env = {"KYB_STREAM_CLICKHOUSE__URL": f"http://127.0.0.1:{port}", "KYB_STREAM_CLICKHOUSE__DATABASE": "default"}
        same_port, same_folder, asked = await asyncio.gather(
            kyb_stream("embedded", "clickhouse", "--data-dir", str(tmp_path / "other"), "--port", str(port)),
            kyb_stream("embedded", "clickhouse", "--data-dir", str(folder), "--port", str(free_port())),
            kyb_stream("sql", "SELECT 1 AS one", "--format", "csv", env=env, cwd=tmp_path),
        )
        assert (asked.exit_code, asked.out) == (0, '"one"\n1\n')
        assert failed_clearly(same_port, 1, f"port {port} for ClickHouse is in use by process {server.pid}")
        assert failed_clearly(same_folder, 1, f"{folder} is in use by process {server.pid}")
        server.send(signal.SIGTERM)
        assert await server.ended() == 0
        assert not await http_ok(f"http://127.0.0.1:{port}/ping")
    finally:
        await server.close()


async def test_the_embedded_broker_runs_alone_and_refuses_what_is_in_use(tmp_path: Path) -> None:
    """As ClickHouse; Ctrl-C ends it."""
    port, folder = free_port(), tmp_path / "data"
    broker = Background("embedded", "broker", "--data-dir", str(folder), "--port", str(port), log=tmp_path / "broker.log")
    try:
        await wait_until(lambda: kafka_answers(f"127.0.0.1:{port}"), 30, "the broker answers")
        same_port, same_folder = await asyncio.gather(
            kyb_stream("embedded", "broker", "--data-dir", str(tmp_path / "other"), "--port", str(port)),
            kyb_stream("embedded", "broker", "--data-dir", str(folder), "--port", str(free_port())),
        )
        assert failed_clearly(same_port, 1, f"port {port} for the embedded broker is in use by process {broker.pid}")
        assert failed_clearly(same_folder, 1, f"{folder} is in use by process {broker.pid}")
        broker.send(signal.SIGINT)
        await broker.ended()
        assert not await kafka_answers(f"127.0.0.1:{port}")
    finally:
        await broker.close()


async def test_a_component_says_what_it_lacks(tmp_path: Path, noida_broker: str) -> None:
    """Without topics the worker ends, and says how to make them; without sources the ingress does."""
    config = tmp_path / "kyb-stream.toml"
    config.write_text(
        f'[kafka]\nbootstrap_servers = "{noida_broker}"\ntopic_prefix = "none-{tmp_path.name}."\n'
        '[[tenants]]\nname = "acme"\npseudonym_key = "0123456789abcdef"\ncase_token_keys = ["0123456789abcdef"]\n'
    )
    prefix = load_settings(config, {}).kafka.topic_prefix
    worker, tail, ingress = await asyncio.gather(
        *(kyb_stream(*command, "--config", str(config)) for command in (["worker"], ["tail", "events"], ["ingress"]))
    )
    assert failed_clearly(worker, 1, f"topic {prefix}", "does not exist")
    assert failed_clearly(tail, 1, f"topic {prefix}events.v1 does not exist")
    assert "hint: `kyb-stream migrate` makes the topics.\n" in worker.err
    assert failed_clearly(ingress, 2, "no source is configured")
    assert "hint: Add [[sources]] " in ingress.err
