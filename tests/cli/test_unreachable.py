"""Kafka, ClickHouse or the ingress are not there: exit code 1, soon, and one sentence that names the address."""

from __future__ import annotations

import asyncio
from pathlib import Path

from kybstream.settings import load_settings
from tests.cli.commands import failed_clearly, lonely_configuration
from tests.support.commands import kyb_stream

SOON_SECONDS = 20.0


async def test_commands_that_need_kafka_name_it(tmp_path: Path) -> None:
    """A worker, too: a process manager starts it again."""
    path = lonely_configuration(tmp_path)
    servers = load_settings(path, {}).kafka.bootstrap_servers
    commands = [
        ["migrate"],
        ["worker"],
        ["reconcile", "--wait", "0"],
        ["tail", "events", "--no-follow"],
        ["links", "add", "--case", "x", "--user-no", "y"],
    ]
    answers = await asyncio.gather(
        *(kyb_stream(*command, "--config", str(path), cwd=tmp_path, seconds=SOON_SECONDS) for command in commands)
    )
    assert all(failed_clearly(done, 1, f"Kafka at {servers} cannot be reached") for done in answers)
    assert all("hint: Check kafka.bootstrap_servers, and that the broker runs.\n" in done.err for done in answers)


async def test_commands_that_need_clickhouse_name_it(tmp_path: Path, noida_broker: str) -> None:
    """Also when Kafka is there."""
    path = lonely_configuration(tmp_path)
    url = load_settings(path, {}).clickhouse.url
    kafka = {"KYB_STREAM_KAFKA__BOOTSTRAP_SERVERS": noida_broker, "KYB_STREAM_KAFKA__TOPIC_PREFIX": f"{tmp_path.name}."}
    answers = await asyncio.gather(
        *(
            kyb_stream(*command, "--config", str(path), env=kafka, seconds=SOON_SECONDS)
            for command in (["sql", "SELECT 1"], ["sql", "--format", "csv", "SELECT 1"], ["migrate"])
        )
    )
    assert all(failed_clearly(done, 1, f"ClickHouse at {url} cannot be reached") for done in answers)


async def test_the_simulator_names_the_ingress(tmp_path: Path) -> None:
    """It does not try for as long as a provider would."""
    path = lonely_configuration(tmp_path)
    done = await kyb_stream("simulate", "--cases", "5", "--config", str(path), seconds=SOON_SECONDS)
    assert failed_clearly(done, 1, f"no answer from {load_settings(path, {}).ingress.base_url}")


async def test_debug_shows_where(tmp_path: Path) -> None:
    """With `--debug` a traceback comes before the sentence."""
    done = await kyb_stream("--debug", "sql", "SELECT 1", "--config", str(lonely_configuration(tmp_path)))
    assert done.exit_code == 1
    assert "Traceback (most recent call last)" in done.err
    assert done.err.splitlines()[-2].startswith("error: ClickHouse at ")
