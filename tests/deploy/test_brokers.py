from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.embedded import noida
from deploy.embedded.apache_kafka import KAFKA_VERSION, KafkaNode, MissingToolError, ensure_jars
from deploy.embedded.apache_kafka.configuration import server_properties
from deploy.embedded.ports import free_port
from deploy.embedded.readiness import kafka_answers
from deploy.embedded.supervisor import Supervisor
from kybstream.errors import RunError
from tests.support.waiting import wait_until

MESSAGES = [f"message {number}".encode() for number in range(50)]


async def make_topic(bootstrap_servers: str, topic: str) -> None:
    """Makes a topic of one partition."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()


@asynccontextmanager
async def producer_for(bootstrap_servers: str) -> AsyncIterator[AIOKafkaProducer]:
    """A producer with acks=all."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, acks="all", request_timeout_ms=10_000)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def produce(bootstrap_servers: str, topic: str, messages: Sequence[bytes]) -> None:
    """Returns when the broker has acknowledged all messages."""
    async with producer_for(bootstrap_servers) as producer:
        await asyncio.gather(*[producer.send_and_wait(topic, message) for message in messages])


async def consume(bootstrap_servers: str, topic: str) -> list[bytes]:
    """All messages of the topic's only partition."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers)
    await consumer.start()
    try:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        end = (await consumer.end_offsets([partition]))[partition]
        found: list[bytes] = []
        while len(found) < end:
            records = await asyncio.wait_for(consumer.getone(), 10)
            found.append(records.value)
        return found
    finally:
        await consumer.stop()


async def test_embedded_broker_keeps_messages_over_sigterm(tmp_path: Path) -> None:
    """What it acknowledged before it was stopped is there when it is started again on the same folder."""
    port = free_port()
    for messages in (MESSAGES, []):
        async with Supervisor() as stack:
            await stack.start(noida.broker_child(tmp_path / "data", port, log_path=tmp_path / "broker.log"))
            if messages:
                await make_topic(f"{noida.HOST}:{port}", "kept")
                await produce(f"{noida.HOST}:{port}", "kept", messages)
            assert sorted(await consume(f"{noida.HOST}:{port}", "kept")) == sorted(MESSAGES)


async def test_embedded_broker_alone_gets_signals_itself_and_keeps_its_folder(tmp_path: Path) -> None:
    """The command becomes the broker: a second one is refused folder and port, and a SIGTERM ends the broker, not a parent."""
    port = free_port()
    command = [sys.executable, "-m", "deploy.embedded.noida"]
    broker = await asyncio.create_subprocess_exec(
        *command, f"--data-dir={tmp_path / 'data'}", f"--port={port}", stdout=subprocess.DEVNULL
    )
    try:
        await wait_until(lambda: kafka_answers(f"{noida.HOST}:{port}"), 20, "the broker answers")
        for folder, other_port, refusal in (
            ("data", free_port(), f"error: {tmp_path / 'data'} is in use by process {broker.pid}\n"),
            ("other", port, f"error: port {port} for the embedded broker is in use"),
        ):
            second = await asyncio.to_thread(
                subprocess.run,
                [*command, f"--data-dir={tmp_path / folder}", f"--port={other_port}"],
                capture_output=True,
                text=True,
                timeout=20,
                check=False,
            )
            assert second.returncode == 1
            assert second.stderr.startswith(refusal)
        broker.send_signal(signal.SIGTERM)
        await asyncio.wait_for(broker.wait(), 10)
        assert not await kafka_answers(f"{noida.HOST}:{port}")
    finally:
        if broker.returncode is None:
            broker.kill()
        await broker.wait()


def test_missing_wheel_is_a_clear_error_with_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where noida-db has no wheel, the error points to Apache Kafka."""
    monkeypatch.setattr(noida, "find_spec", lambda _: None)
    with pytest.raises(RunError, match="not installed") as caught:
        noida.broker_command(tmp_path, 9092)
    assert "--broker apache" in str(caught.value.hint)


async def test_port_of_the_broker_in_use_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    """The stack's owner learns of a taken port from one sentence, not from a log."""
    with socket.create_server(("127.0.0.1", free_port())) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(RunError, match=rf"^port {port} for the embedded broker is in use"):
            noida.broker_child(tmp_path, port, log_path=tmp_path / "log")


async def test_session_fixture_serves(noida_broker: str, topic_prefix: str) -> None:
    """The shared embedded broker takes and gives messages."""
    await make_topic(noida_broker, f"{topic_prefix}t")
    await produce(noida_broker, f"{topic_prefix}t", MESSAGES[:1])
    assert await consume(noida_broker, f"{topic_prefix}t") == MESSAGES[:1]


@pytest.mark.kafka
async def test_kafka_keeps_acknowledged_messages_over_kill_and_restart(breakable_kafka: KafkaNode, topic_prefix: str) -> None:
    """SIGKILL right after the acknowledgements loses none of them, and the node comes back on its ports."""
    node, topic = breakable_kafka, f"{topic_prefix}killed"
    await make_topic(node.bootstrap_servers, topic)
    await produce(node.bootstrap_servers, topic, MESSAGES)
    pids = [node.pid]
    await node.kill()
    pids.append(node.pid)
    assert not await kafka_answers(node.bootstrap_servers)
    await node.start()
    pids.append(node.pid)
    assert pids[1] is None
    assert len(set(pids)) == 3
    assert sorted(await consume(node.bootstrap_servers, topic)) == sorted(MESSAGES)


@pytest.mark.kafka
async def test_paused_kafka_acknowledges_nothing_until_it_is_resumed(breakable_kafka: KafkaNode, topic_prefix: str) -> None:
    """A paused node keeps its connections and does not answer; resumed, it acknowledges what was sent meanwhile."""
    node, topic = breakable_kafka, f"{topic_prefix}paused"
    await make_topic(node.bootstrap_servers, topic)
    async with producer_for(node.bootstrap_servers) as producer:
        await producer.send_and_wait(topic, b"before")
        node.pause()
        sending = asyncio.ensure_future(await producer.send(topic, b"during"))
        assert not await kafka_answers(node.bootstrap_servers)  # takes its two seconds
        assert not sending.done()
        node.resume()
        await asyncio.wait_for(sending, 15)
    await node.wait_ready()
    assert await consume(node.bootstrap_servers, topic) == [b"before", b"during"]


@pytest.mark.kafka
async def test_kafka_that_cannot_start_says_why(tmp_path: Path, apache_kafka: KafkaNode) -> None:
    """The reason comes from Java's own output, and nothing keeps running."""
    assert apache_kafka.pid is not None  # Java and Maven are there
    node = KafkaNode(tmp_path, free_port(), free_port(), heap_mib=0)
    with pytest.raises(RunError, match=r"^Apache Kafka ended with exit code 1: .*heap size"):
        await node.start()
    assert node.pid is None


def test_broker_settings_can_be_overridden(tmp_path: Path) -> None:
    """A test's override replaces the default, and other settings stand."""
    text = server_properties(
        log_dir=tmp_path,
        host="127.0.0.1",
        port=1,
        controller_port=2,
        overrides={"message.max.bytes": 1000, "auto.create.topics.enable": "true"},
    )
    settings = dict(line.split("=", 1) for line in text.splitlines())
    assert settings["message.max.bytes"] == "1000"
    assert settings["auto.create.topics.enable"] == "true"
    assert settings["group.initial.rebalance.delay.ms"] == "0"


# The fetching of the jars, with stand-ins for Maven and Java: what is tested is what happens around them.

FAKE_JAVA = "#!/bin/sh\necho 'openjdk version \"17.0.1\" 2021-10-19' >&2\n"
FAKE_MAVEN = """#!/bin/sh
for argument; do case $argument in -DoutputDirectory=*) folder=${argument#*=};; esac; done
echo run >> "$RUNS"
echo half > "$folder/first.jar"
sleep "${MAVEN_SECONDS:-0.3}"
echo half > "$folder/second.jar"
"""
ENSURE = "import sys; from pathlib import Path; from deploy.embedded.apache_kafka import *; ensure_jars(Path(sys.argv[1]))"


def names(folder: Path) -> list[str]:
    """What a folder holds."""
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with stand-ins for `java` and `mvn`, which are found before any others."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, script in (("java", FAKE_JAVA), ("mvn", FAKE_MAVEN)):
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    return folder


@pytest.mark.usefixtures("tools")
async def test_jars_are_fetched_once_by_parallel_callers(tmp_path: Path) -> None:
    """Three callers at once: one runs Maven, all get the whole folder, nothing else stays in the cache."""
    cache = tmp_path / "cache"
    folders = await asyncio.gather(*[asyncio.to_thread(ensure_jars, cache) for _ in range(3)])
    assert set(folders) == {cache / f"kafka-{KAFKA_VERSION}"}
    assert names(folders[0]) == ["first.jar", "second.jar"]
    assert (tmp_path / "runs").read_text() == "run\n"
    assert names(cache) == [f".kafka-{KAFKA_VERSION}.lock", f"kafka-{KAFKA_VERSION}"]


@pytest.mark.usefixtures("tools")
async def test_killed_fetch_leaves_no_half_folder(tmp_path: Path) -> None:
    """What a SIGKILLed fetch left is not taken for the jars, and is removed by the next fetch."""
    cache = tmp_path / "cache"
    slow = {**os.environ, "MAVEN_SECONDS": "30"}
    fetching = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ENSURE, str(cache), env=slow, stdout=subprocess.DEVNULL
    )
    try:
        await wait_until(lambda: list(cache.glob(".kafka-*/first.jar")), 10, "the fetch has begun")
    finally:
        fetching.kill()
        await fetching.wait()
    assert f"kafka-{KAFKA_VERSION}" not in names(cache)
    jars = await asyncio.to_thread(ensure_jars, cache)
    assert names(jars) == ["first.jar", "second.jar"]
    assert names(cache) == [f".kafka-{KAFKA_VERSION}.lock", f"kafka-{KAFKA_VERSION}"]


def test_failed_fetch_gives_mavens_reason_and_leaves_nothing(tools: Path, tmp_path: Path) -> None:
    """Without a network, say, the first of Maven's errors is in the message."""
    reason = "Could not transfer artifact org.apache.kafka:kafka_2.13: Unknown host"
    (tools / "mvn").write_text(f"#!/bin/sh\necho '[ERROR] {reason}'\necho '[ERROR] Re-run Maven with -X'\nexit 1\n")
    cache = tmp_path / "cache"
    with pytest.raises(RunError, match=rf"could not fetch Apache Kafka .*: {reason}$"):
        ensure_jars(cache)
    assert names(cache) == [f".kafka-{KAFKA_VERSION}.lock"]


@pytest.mark.parametrize(
    ("java_version", "has_maven", "complaint"),
    [
        (None, True, "Java is not installed"),
        ("1.8.0_292", True, "Java 17 or newer is needed, but .* is version 8$"),
        ("16.0.2", True, "Java 17 or newer is needed, but .* is version 16$"),
        ("17.0.1", False, "Maven .* is not installed"),
    ],
)
def test_missing_tool_is_named(
    tools: Path, tmp_path: Path, *, java_version: str | None, has_maven: bool, complaint: str
) -> None:
    """Java missing or too old, or Maven missing: the error says which, and what to do."""
    (tools / "java").unlink()
    if java_version:
        (tools / "java").write_text(FAKE_JAVA.replace("17.0.1", java_version))
        (tools / "java").chmod(0o755)
    if not has_maven:
        (tools / "mvn").unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(tools))
        with pytest.raises(MissingToolError, match=complaint) as caught:
            ensure_jars(tmp_path / "cache")
    assert caught.value.hint
