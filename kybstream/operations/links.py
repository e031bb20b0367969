"""Registering a link: the integrator says that a case has a KYC subject."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from aiokafka.errors import KafkaError

from kybstream.errors import UnavailableError
from kybstream.kafka import durable_producer, unreachable
from kybstream.settings import KafkaSettings
from schemas.cloudevents import cloud_event_headers
from schemas.codec import encode
from schemas.records import Link
from schemas.topics import LINKS, entity_key

_ACK_SECONDS = 10.0
_STOP_SECONDS = 2.0


async def register_links(kafka: KafkaSettings, links: Sequence[Link]) -> None:
    """Produces links, and returns when Kafka has acknowledged them all.

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
