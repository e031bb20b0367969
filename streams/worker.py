"""The Faust worker: intake and cases as agents in batches, and the timer that lets cases expire.

kyb.webhooks.raw.v1 + kyb.links.v1 -> intake -> deliveries, events, case-events, dead-letters
kyb.case-events.v1                 -> cases  -> cases, dead-letters
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypedDict

import structlog
from faust.auth import SASLCredentials

from kybstream.encryption import body_decryptor
from kybstream.errors import ConfigurationError, RunError
from kybstream.expired import Expired
from kybstream.folder_lock import lock_folder
from kybstream.kafka import client_options, require_topics
from kybstream.kafka_outages import telling_kafka_outages
from kybstream.settings import KafkaSettings, Settings
from kybstream.unread import tell_expired
from schemas.expired import expired_letter
from schemas.topic_config import topic_config
from schemas.topics import ALL_TOPICS
from streams.batching import BatchApp, BatchTable, Observer, Output, Process, changelog_topic, run
from streams.batching.sizes import Fits
from streams.dead_letter_limit import Limited
from streams.dead_lettering import output_of
from streams.expiring import FORGOTTEN, CaseDue, CaseRemains, IntakeDue, IntakeRemains, told_again_within
from streams.forwarding import Forwarding
from streams.metrics import WorkerMetrics
from streams.misplaced import require_state_in_place
from streams.monitoring import monitored
from streams.policy import policies
from streams.processing import CasesProcess, IntakeProcess, TopicNames
from streams.sweeping import Expired as ExpiredEntries
from streams.sweeping import Sweeping
from streams.timer import let_cases_expire

log = structlog.get_logger(__name__)

INTAKE_TABLE = "intake"
CASES_TABLE = "cases"
TABLES = (INTAKE_TABLE, CASES_TABLE)

Clock = Callable[[], datetime]


class _Sizes(TypedDict):
    changelog: str
    fits: Fits


def utc_now() -> datetime:
    """The wall clock; injected everywhere else."""
    return datetime.now(UTC)


def new_app(settings: Settings, observer: Observer | None = None) -> BatchApp:
    """An app of this worker's settings, without agents."""
    worker = settings.worker
    return BatchApp(
        worker.group,
        broker=settings.kafka.bootstrap_servers,
        datadir=Path(worker.data_dir),
        store="rocksdb://" if worker.store == "rocksdb" else "memory://",
        partitions=settings.kafka.partitions,
        instance_id=worker.instance,
        commit_interval=worker.commit_interval_seconds,
        replication_factor=settings.kafka.replication_factor,
        changelog_config=topic_config(settings.kafka, retention_hours=None),
        settings=_security(settings.kafka),
        observer=observer,
        tell_expired=lambda expired: _tell_expired(expired, settings.kafka),
    )


def _tell_expired(expired: Expired, kafka: KafkaSettings) -> list[Output]:
    """Logs what has expired unread, and makes the dead letter that stays of it.

    Raises:
        ExpiredUnreadError: The settings say to stop.
    """
    tell_expired(expired, kafka, "worker")
    names = TopicNames(kafka.topic_prefix)
    return [output_of(names.dead_letters, None, expired_letter(expired, names.stage(expired.topic), utc_now()), None)]


def build_app(settings: Settings, observer: Observer | None = None, clock: Clock = utc_now) -> tuple[BatchApp, BatchTable]:
    """The app with its two agents, and the table of cases that the timer looks through."""
    worker = settings.worker
    app = new_app(settings, observer)

    def limited(agent: str, process: Process) -> Process:
        return Limited(agent, process, share=worker.dead_letter_share, window=worker.dead_letter_window)

    def sizes(table: str) -> _Sizes:
        return {"changelog": changelog_topic(worker.group, table, settings.kafka.partitions).name, "fits": app.sizes.fits}

    names = TopicNames(settings.kafka.topic_prefix)
    app.output_topics |= {names.deliveries, names.events, names.case_events, names.cases, names.dead_letters}
    rules = policies(settings)
    deliveries_and_links = app.batch_topic(names.raw, names.links)
    intakes = app.batch_table(INTAKE_TABLE, IntakeDue(rules))
    intake = limited(INTAKE_TABLE, IntakeProcess(rules, names, body_decryptor(settings.encryption), **sizes(INTAKE_TABLE)))
    intake = Sweeping(intake, _expired(intakes), IntakeRemains(rules), clock)
    intake = Forwarding(intake, settings.kafka.partitions)
    # Two topics: their order among each other may differ after a kill, so what was told must follow from what is remembered.
    app.batch_agent(deliveries_and_links, intakes, intake, retells=True)
    kept = told_again_within(settings.kafka)
    cases = app.batch_table(CASES_TABLE, CaseDue(kept))
    fold = limited(CASES_TABLE, CasesProcess(rules, names, **sizes(CASES_TABLE)))
    fold = Sweeping(fold, _expired(cases), CaseRemains(kept), clock)
    fold = Forwarding(fold, settings.kafka.partitions)
    app.batch_agent(app.batch_topic(names.case_events), cases, fold)
    return app, cases


def _expired(table: BatchTable) -> ExpiredEntries:
    return lambda partition, now: table.due(partition, FORGOTTEN, now)


def changelog_topics(settings: Settings) -> dict[str, dict[str, str]]:
    """Kafka configuration of the tables' changelogs by topic name."""
    group, partitions = settings.worker.group, settings.kafka.partitions
    changelogs = [changelog_topic(group, table, partitions) for table in TABLES]
    return {changelog.name: topic_config(settings.kafka, retention_hours=None) for changelog in changelogs}


def every_topic(settings: Settings) -> dict[str, dict[str, str]]:
    """Kafka configuration of all topics of a stack by name, changelogs included."""
    topics = {settings.topic(topic.suffix): topic.config(settings.kafka) for topic in ALL_TOPICS}
    return topics | changelog_topics(settings)


async def run_worker(
    settings: Settings,
    *,
    stop: asyncio.Event,
    ready: Callable[[], None] | None = None,
    clock: Clock = utc_now,
    leave: Callable[[RunError], None] | None = None,
) -> None:
    """Runs the worker until `stop` is set.

    Args:
        settings: The whole configuration.
        stop: Set it for a graceful end: batches that began are finished and committed.
        ready: Called once when the state is complete and batches are processed.
        clock: What time it is, for expiry, and so that nothing is forgotten because of a record from the future.
        leave: Ends the process at once, from another thread: see `streams.monitoring`.

    Raises:
        ConfigurationError: No tenant is configured.
        UnavailableError: Kafka cannot be reached.
        DeadLetterLimitError: Too many records cannot be processed.
        StalledError: Nothing went on for too long.
        RunError: A topic is missing (`kyb-stream migrate` makes them), partitions were added but no state was moved, the port
            of the health pages or the data folder is in use, or the worker crashed.
    """
    if not settings.tenants:
        raise ConfigurationError("no [[tenants]] are configured", hint="kyb-stream.example.toml shows one.")
    topics = every_topic(settings)
    await require_topics(settings.kafka, topics)
    await require_state_in_place(settings.kafka, changelog_topics(settings))
    metrics = WorkerMetrics()
    app, cases = build_app(settings, metrics, clock)
    with lock_folder(Path(settings.worker.data_dir)):
        async with telling_kafka_outages(settings.kafka, topics), monitored(app, metrics, settings.worker, leave):
            case_events = TopicNames(settings.kafka.topic_prefix).case_events
            expiring = let_cases_expire(app, cases, case_events, clock, every=settings.worker.timer_seconds, ready=ready)
            timer = asyncio.create_task(expiring)
            looks = asyncio.create_task(metrics.retention.run(settings.kafka, app.unread))
            beside = (timer, looks)
            for task in beside:
                task.add_done_callback(lambda done: _crash_with(app, done))
            try:
                await run(app, stop)
            finally:
                for task in beside:
                    task.cancel()
                await asyncio.gather(*beside, return_exceptions=True)


def _crash_with(app: BatchApp, timer: asyncio.Task[None]) -> None:
    """A timer that died of a bug must not leave a worker behind that never lets a case expire."""
    error = None if timer.cancelled() else timer.exception()
    if error is not None:
        app.crash_soon(error)


def _security(kafka: KafkaSettings) -> dict[str, object]:
    """Faust's credentials for what `client_options` gives aiokafka."""
    if kafka.security_protocol == "PLAINTEXT":
        return {}
    options = client_options(kafka)
    context = options.get("ssl_context")
    if kafka.security_protocol == "SSL":
        return {"broker_credentials": context}
    credentials = SASLCredentials(
        mechanism=kafka.sasl_mechanism,
        username=kafka.sasl_username,
        password=options["sasl_plain_password"],
        ssl_context=context,
    )
    return {"broker_credentials": credentials}
