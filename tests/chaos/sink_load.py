"""What the sink is given under chaos, and what its tables must hold in the end."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from aiokafka import AIOKafkaProducer

from kybstream.kafka import client_options
from kybstream.settings import Settings
from schemas.codec import encode
from schemas.topics import DELIVERIES
from sinks.query import query
from tests.sinks.making import delivery
from tests.support.waiting import wait_until

_CHUNK = 200
_DERIVED_SECONDS = 20.0
_POISON_IN = 1_000
"""One record of so many cannot be a row."""


@dataclass(frozen=True)
class Count:
    """What a table holds.

    Attributes:
        rows: By partition.
        places: Distinct offsets, by partition.
        places_sum: Of the distinct offsets, by partition.
    """

    rows: dict[int, int]
    places: dict[int, int]
    places_sum: dict[int, int]

    @property
    def doubled(self) -> int:
        """Rows whose place another row has."""
        return sum(self.rows.values()) - sum(self.places.values())


@dataclass
class SinkLoad:
    """Deliveries that are being written, poison among them.

    Attributes:
        settings: Whose topic.
        records: How many in all.
        rate: How many a second, at most.
        good: Offsets of the records that are rows, by partition.
        poison: How many are not; each has bytes of its own, and so a dead letter of its own.
    """

    settings: Settings
    records: int
    rate: float
    dice: random.Random
    good: dict[int, list[int]] = field(default_factory=dict)
    poison: int = 0
    written: int = 0

    async def write(self) -> None:
        """Writes them all; each record once."""
        began = time.monotonic()
        topic, partitions = self.settings.topic(DELIVERIES), self.settings.kafka.partitions
        values = self._values()
        options = client_options(self.settings.kafka)
        async with AIOKafkaProducer(**options, acks="all", enable_idempotence=True, linger_ms=5) as producer:
            while self.written < self.records:
                chunk = [next(values) for _ in range(min(_CHUNK, self.records - self.written))]
                sent = [await producer.send(topic, value, partition=self.dice.randrange(partitions)) for _, value in chunk]
                for (is_row, _), place in zip(chunk, await asyncio.gather(*sent), strict=True):
                    if is_row:
                        self.good.setdefault(place.partition, []).append(place.offset)
                    else:
                        self.poison += 1
                self.written += len(chunk)
                await asyncio.sleep(max(0.0, began + self.written / self.rate - time.monotonic()))

    def _values(self) -> Iterator[tuple[bool, bytes]]:
        """(Whether it can be a row, the value): ids are all different, poison differs in its bytes."""
        number = 0
        while True:
            value = encode(delivery(number))
            if self.dice.randrange(_POISON_IN):
                yield True, value
            elif self.dice.random() < 1 / 2:
                yield False, b"not avro %d" % number
            else:
                yield False, value[:-2]  # a body that ends too early
            number += 1

    async def landed(self) -> int:
        """Rows in the table, repeats included."""
        answer = await query(self.settings.clickhouse, "SELECT count() FROM deliveries", final=False)
        return int(str(answer.rows[0][0]))

    async def complete(self) -> bool:
        """Whether everything that was written is in the tables."""
        rows = await query(self.settings.clickhouse, "SELECT uniqExact(_partition, _offset) FROM deliveries", final=False)
        letters = await query(self.settings.clickhouse, "SELECT count() FROM dead_letters")
        good = sum(map(len, self.good.values()))
        return int(str(rows.rows[0][0])) >= good and int(str(letters.rows[0][0])) >= self.poison

    async def count(self, *, final: bool) -> Count:
        """What the table of deliveries holds."""
        sql = (
            "SELECT _partition, count(), uniqExact(_offset), arraySum(groupUniqArray(_offset)) FROM deliveries "
            "GROUP BY _partition ORDER BY _partition"
        )
        answer = await query(self.settings.clickhouse, sql, final=final)
        found = [tuple(int(str(value)) for value in row) for row in answer.rows]
        return Count(
            {partition: rows for partition, rows, _, _ in found},
            {partition: places for partition, _, places, _ in found},
            {partition: total for partition, _, _, total in found},
        )

    async def check(self, *, token_suffices: bool) -> Count:
        """Counts, and fails where an offset is missing, doubled, or one that was never a row.

        Args:
            token_suffices: Whether also without FINAL no row may be doubled.

        Returns:
            What there is without FINAL.
        """
        expected = {partition: len(offsets) for partition, offsets in sorted(self.good.items())}
        sums = {partition: sum(offsets) for partition, offsets in sorted(self.good.items())}
        final, raw = await self.count(final=True), await self.count(final=False)
        for found in (final, raw):
            assert found.places == expected
            assert found.places_sum == sums
        assert final.rows == expected
        if token_suffices:
            assert raw.rows == expected, f"{raw.doubled} rows are doubled without FINAL"
        letters = await query(self.settings.clickhouse, "SELECT reason, count() FROM dead_letters GROUP BY reason")
        reasons = Counter({str(reason): int(str(count)) for reason, count in letters.rows})
        assert reasons.keys() <= {"not_avro", "bad_body"}
        assert reasons.total() == self.poison
        await self._check_derived()
        return raw

    async def _check_derived(self) -> None:
        """What the views read has each delivery once, too, whatever ended between the table and what is derived from it."""
        good = sum(map(len, self.good.values()))

        async def whole() -> bool:  # the last insert may still be on its way there
            answer = await query(self.settings.clickhouse, "SELECT uniqExact(delivery) FROM deliveries_by_time", final=False)
            return int(str(answer.rows[0][0])) >= good

        await wait_until(whole, _DERIVED_SECONDS, "each delivery is in what is derived")
        answer = await query(
            self.settings.clickhouse, "SELECT count(), uniqExact(delivery) FROM deliveries_by_time", final=True
        )
        assert [int(str(value)) for value in answer.rows[0]] == [good, good]
