"""What a load was told, held against what lies in the raw topic."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec
from aiokafka import ConsumerRecord

from kybstream.encryption import body_decryptor
from kybstream.settings import EncryptionSettings, Settings
from schemas.codec import decode
from schemas.records import WebhookDelivery
from schemas.topics import RAW
from tests.support.provider_load import NOT_SENT, Attempt, body_of, number_of
from tests.support.topics import whole_topic

OK, NOT_DURABLE = 200, 503
NO_ANSWER = 0


@dataclass(frozen=True)
class Account:
    """What a run came to.

    Attributes:
        claimed: The number of the body by each delivery id that came with a 200.
        stored: The same by each delivery id in the topic; more than was claimed where an answer was lost.
        records: In the topic.
        failures: Requests that got no 200, by status or error.
        slowest: Seconds of the 200 that took longest.
    """

    claimed: dict[str, int] = field(repr=False)
    stored: dict[str, int] = field(repr=False)
    records: int
    failures: Counter[str]
    slowest: float

    @property
    def copies(self) -> int:
        """Records whose delivery id was there already."""
        return self.records - len(self.stored)

    def __str__(self) -> str:
        failures = ", ".join(f"{count} {what}" for what, count in sorted(self.failures.items())) or "none"
        return (
            f"{len(self.claimed)} acknowledged, {len(self.stored)} stored, {self.copies} copies on the topic, "
            f"failures: {failures}, slowest 200 {self.slowest:.2f} s"
        )


async def account(settings: Settings, run: str, attempts: Sequence[Attempt]) -> Account:
    """Compares every answer with the topic, and fails on the first promise that was not kept.

    - Every id that came with a 200 is in the topic, with the body that was sent; no id came twice.
    - An answer that is no 200 is a 503, and names no id.
    - What is in the topic without having been claimed is a body one of whose requests failed, once for each at most.
    - Records of one id are equal to the byte.
    """
    records = await whole_topic(settings.kafka, settings.topic(RAW), settings.kafka.partitions)
    stored = _stored(records, run, settings.encryption)
    acknowledged = [each for each in attempts if each.status == OK]
    claimed = {each.delivery_id: each.number for each in acknowledged}
    failed = [each for each in attempts if each.status != OK]
    assert {each.status for each in failed} <= {NO_ANSWER, NOT_DURABLE}
    assert {each.delivery_id for each in failed} <= {""}
    assert len(claimed) == len(acknowledged)
    missing = [delivery_id for delivery_id in claimed if delivery_id not in stored]
    assert not missing, f"{len(missing)} of {len(claimed)} that got 200 are not in the topic, as {missing[0]}"
    assert {delivery_id: stored[delivery_id] for delivery_id in claimed} == claimed
    unclaimed = Counter(number for delivery_id, number in stored.items() if delivery_id not in claimed)
    assert unclaimed <= Counter(each.number for each in failed if each.error != NOT_SENT)
    # The load goes on until each body that it began has its 200.
    assert sorted(claimed.values()) == list(range(len(claimed)))
    failures = Counter(each.error or str(each.status) for each in failed)
    return Account(claimed, stored, len(records), failures, max(each.seconds for each in acknowledged))


def _stored(records: Iterable[ConsumerRecord], run: str, encryption: EncryptionSettings) -> dict[str, int]:
    """Which body each delivery id holds; every record must be what was sent, and equal to the others of its id."""
    bodies = body_decryptor(encryption)
    copies: defaultdict[str, list[ConsumerRecord]] = defaultdict(list)
    found: dict[str, int] = {}
    for record in records:
        delivery = decode(record.value, WebhookDelivery)
        name = delivery.delivery_id
        copies[name].append(record)
        assert delivery.body_key_id is not None
        body = bodies.decrypt(delivery.body, tenant=delivery.tenant, delivery_id=name, body_key_id=delivery.body_key_id)
        found[name] = number_of(run, msgspec.json.decode(body)["service_id"])
        assert body == body_of(run, found[name])
    for same in copies.values():
        first = same[0]
        assert all((each.key, each.value, each.headers) == (first.key, first.value, first.headers) for each in same)
        assert {each.partition for each in same} == {first.partition}
    return found
