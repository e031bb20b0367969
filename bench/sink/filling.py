"""The records that are measured: deliveries and events of an exact size, as the worker would tell them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from bench.streams.filling import TENANT, Row
from schemas import topics
from schemas.cloudevents import cloud_event_headers
from schemas.codec import encode
from schemas.records import Delivery, Event, Record

_START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Kind:
    """What a topic is filled with.

    Attributes:
        name: As in the table.
        letter: Short name, for `--only`.
        topic: The topic's name without prefix.
        table: Where it lands.
        record: Its type.
        value_bytes: Of each value, Avro with its ten bytes of magic and fingerprint.
        make: The record of a number, with so many characters of padding.
    """

    name: str
    letter: str
    topic: str
    table: str
    record: type[Record]
    value_bytes: int
    make: Callable[[int, int], Record]

    def rows(self, count: int) -> Iterator[Row]:
        """So many records, keyed as the worker's, each of exactly `value_bytes`."""
        padding = self.value_bytes - len(encode(self.make(0, 0)))
        while len(encode(self.make(0, padding))) > self.value_bytes:  # a longer text has a longer length before it
            padding -= 1
        headers = cloud_event_headers(self.make(0, padding))
        for number in range(count):
            yield f"{TENANT}/{number:012x}".encode(), encode(self.make(number, padding)), headers


def _small_delivery(number: int, padding: int) -> Delivery:
    """As of a body that could not be read: few fields."""
    return Delivery(
        delivery_id=f"01a20612-5a43-72a9-a4d0-{number:012x}",
        received_at=_START + timedelta(milliseconds=number),
        tenant=TENANT,
        source="kyb",
        source_kind="kyb-service",
        verdict="quarantined",
        reason="x" * padding,
        body_size=500,
    )


def _large_delivery(number: int, padding: int) -> Delivery:
    """All fields, and a long entity key."""
    return Delivery(
        delivery_id=f"01a20612-5a43-72a9-a4d0-{number:012x}",
        received_at=_START + timedelta(milliseconds=number),
        tenant=TENANT,
        source="kyb",
        source_kind="kyb-service",
        verdict="new",
        event_id=f"{number:032x}",
        first_delivery_id=f"01a20612-5a43-72a9-a4d0-{number:012x}",
        entity_key=f"{TENANT}/{number:x}" + "x" * (padding - len(f"{number:x}") + 1),
        case_id=f"667ab56f{number:012x}",
        event_type="business_information_service_initiated",
        violations=("missing:uid", "null:link"),
        body_size=500,
    )


def _event(number: int, padding: int) -> Event:
    """An event of a KYB webhook: half of its forty fields are those of the other provider, and null."""
    return Event(
        event_id=f"{number:032x}",
        delivery_id=f"01a20612-5a43-72a9-a4d0-{number:012x}",
        received_at=_START + timedelta(milliseconds=number),
        tenant=TENANT,
        source="kyb",
        source_kind="kyb-service",
        entity_key=f"{TENANT}/667ab56f{number:012x}",
        case_id=f"667ab56f{number:012x}",
        placement="own",
        type="business_information_service_initiated",
        status="pending",
        services=("questionnaire", "kyc", "aml"),
        service_id=f"667ab56f{number:012x}",
        kyb_backoffice_id=f"667ab56f{number % 1000:012x}",
        questionnaire_request_id=f"{number:024x}",
        kyc_request_id=f"{number:024x}",
        aml_request_id=f"{number:024x}",
        kyb_request_id=f"{number:024x}",
        uid=f"{number:x}" + "x" * (padding - len(f"{number:x}") + 1),
        registration_number=f"HRB {number % 99_991}".ljust(9),
        null_fields=("document_name",),
    )


KINDS = (
    Kind("delivery of 100 bytes", "d100", topics.DELIVERIES, "deliveries", Delivery, 100, _small_delivery),
    Kind("delivery of 500 bytes", "d500", topics.DELIVERIES, "deliveries", Delivery, 500, _large_delivery),
    Kind("event of 500 bytes", "e500", topics.EVENTS, "events", Event, 500, _event),
)
