"""Registering links, listing those in force, and taking them back: what the integrator says of cases and KYC subjects."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import datetime

from aiokafka.errors import KafkaError

from kybstream.errors import BadRecordError, UnavailableError
from kybstream.kafka import durable_producer, unreachable
from kybstream.operations.topic_reader import read_topic
from kybstream.settings import KafkaSettings
from schemas.cloudevents import cloud_event_headers
from schemas.codec import decode_any, encode
from schemas.links import make_withdrawal
from schemas.records import Link, LinkWithdrawal
from schemas.topics import LINKS, entity_key

_ACK_SECONDS = 10.0
_STOP_SECONDS = 2.0

Statement = Link | LinkWithdrawal


@dataclass(frozen=True)
class LinkFilter:
    """Which links are meant; None: whichever."""

    tenant: str | None = None
    case_id: str | None = None
    subject: str | None = None

    def takes(self, statement: Statement) -> bool:
        """Whether the statement is about what is meant."""
        return (
            self.tenant in {None, statement.tenant}
            and self.case_id in {None, statement.case_id}
            and self.subject in {None, statement.subject}
        )


@dataclass(frozen=True)
class Withdrawn:
    """What came of taking a link back.

    Attributes:
        withdrawal: What was written.
        remaining: Links of the subject to other cases, which are in force.
    """

    withdrawal: LinkWithdrawal
    remaining: tuple[Link, ...]


async def register_links(kafka: KafkaSettings, links: Sequence[Statement]) -> None:
    """Produces links or withdrawals, and returns when Kafka has acknowledged them all.

    Raises:
        UnavailableError: Kafka cannot be reached or does not acknowledge in time; registering again is safe.
    """
    producer = durable_producer(kafka)
    try:
        async with asyncio.timeout(_ACK_SECONDS):
            await producer.start()
            sent = [
                await producer.send(
                    kafka.topic_prefix + LINKS,
                    key=entity_key(link.tenant, link.subject).encode(),
                    value=encode(link),
                    headers=cloud_event_headers(link),
                )
                for link in links
            ]
            await asyncio.gather(*sent)
    except (KafkaError, OSError) as error:
        raise unreachable(kafka, error) from None
    except TimeoutError:
        raise UnavailableError(f"Kafka at {kafka.bootstrap_servers} did not acknowledge in {_ACK_SECONDS:.0f} s") from None
    finally:
        with suppress(TimeoutError):
            # A producer whose broker is gone never stops by itself.
            await asyncio.wait_for(producer.stop(), _STOP_SECONDS)


async def list_links(kafka: KafkaSettings, wanted: LinkFilter) -> list[Link]:
    """The links in force that the links topic holds, one for each subject and case, by tenant, subject and case.

    Kafka compacts the topic: of a subject that is registered for several cases it may keep the newest statement alone.

    Raises:
        UnavailableError: Kafka cannot be reached.
        RunError: There is no such topic.
    """
    statements: list[Statement] = []
    async with aclosing(read_topic(kafka, kafka.topic_prefix + LINKS)) as found:
        async for record in found:
            with suppress(BadRecordError):  # the worker has put it into the dead letters
                statement = decode_any(record.value or b"")
                if isinstance(statement, Link | LinkWithdrawal) and wanted.takes(statement):
                    statements.append(statement)
    return in_force(statements)


def in_force(statements: Iterable[Statement]) -> list[Link]:
    """The newest link of each subject and case that no withdrawal took back, by tenant, subject and case.

    The times that links and withdrawals state decide, as in the worker (`streams.linking`), not their order.
    """
    newest: dict[tuple[str, str, str], Link] = {}
    until: dict[tuple[str, str, str], datetime] = {}
    for statement in statements:
        key = (statement.tenant, statement.subject, statement.case_id)
        if isinstance(statement, Link):
            newest[key] = max(newest.get(key, statement), statement, key=lambda link: link.registered_at)
        else:
            until[key] = max(until.get(key, statement.withdrawn_at), statement.withdrawn_at)
    return [link for key, link in sorted(newest.items()) if key not in until or link.registered_at > until[key]]


async def withdraw_link(
    kafka: KafkaSettings, tenant: str, case_id: str, subject: str, *, now: datetime, unlisted: bool = False
) -> Withdrawn | None:
    """Takes back that a subject was registered for a case; None when no such link is listed, and nothing was written.

    1. Reads what is in force of the subject.
    2. Writes the withdrawal, not older than the link, even if that was registered by a clock that is ahead.
    3. Writes the subject's other links once more, as they were: the worker knows them, but the newest record of a subject is
       the one that compaction keeps.

    Args:
        kafka: Where.
        tenant: Owner of the case.
        case_id: The case.
        subject: The subject's pseudonym.
        now: The time of the withdrawal, aware UTC.
        unlisted: Also a link that the topic does not hold any more.

    Raises:
        UnavailableError: Kafka cannot be reached or does not acknowledge in time; taking back again is safe.
        RunError: There is no such topic.
    """
    links = await list_links(kafka, LinkFilter(tenant, None, subject))
    meant = [link for link in links if link.case_id == case_id]
    if not meant and not unlisted:
        return None
    withdrawal = make_withdrawal(tenant, case_id, subject, withdrawn_at=max([now, *(link.registered_at for link in meant)]))
    remaining = tuple(link for link in links if link.case_id != case_id)
    await register_links(kafka, [withdrawal, *remaining])
    return Withdrawn(withdrawal, remaining)
