"""CPU cost of the pure core: intake and cases over deliveries in memory, beside a limit measured in the same run.

The limit is what no worker can do without: reading the raw record and writing one record of the same size. One thread, no
Kafka, no state on disk. `make bench-core` runs it; it prints records a second, microseconds a record, and the ratio to the
limit. Beside it stands the worst body of 1 MiB that is known, from the raw record to the snapshot of its case.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from bench.tables import DictTable
from bench.worst_body import worst_body, worst_small_body
from kybstream.encryption import BodyDecryptor, BodyEncryptor
from kybstream.privacy import Pseudonymiser
from schemas.cloudevents import cloud_event_headers
from schemas.codec import decode, encode
from schemas.records import WebhookDelivery
from schemas.topics import CASE_EVENTS, RAW, entity_key
from streams.batching.records import Output, Process
from streams.batching.records import Record as KafkaRecord
from streams.policy import TenantPolicy
from streams.processing import CasesProcess, IntakeProcess, TopicNames

DELIVERIES = 20_000
DUPLICATES_IN = 10
"""One delivery in so many repeats the one before."""
BATCH = 2_000
RUNS = 3
START = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = TopicNames("kyb.")
POLICIES = {"acme": TenantPolicy(Pseudonymiser(b"k" * 32), (b"t" * 32,))}
PAYLOAD = Path(__file__).parent.parent / "tests/fixtures/kyb/01_business_information_service_initiated.json"


def raw_records(encryptor: BodyEncryptor) -> list[KafkaRecord]:
    """Encrypted deliveries of a documented payload, each of a case of its own but for the duplicates."""
    payload = json.loads(PAYLOAD.read_text(encoding="utf-8"))
    records = []
    for number in range(DELIVERIES):
        service_id = f"667ab56f{number - (number % DUPLICATES_IN == DUPLICATES_IN - 1):012x}"
        body = json.dumps(payload | {"service_id": service_id}).encode()
        delivery_id = f"01a20612-5a43-72a9-a4d0-{number:012x}"
        sealed, key_id = encryptor.encrypt(body, tenant="acme", delivery_id=delivery_id, day=date(2026, 1, 1))
        delivery = WebhookDelivery(
            delivery_id=delivery_id,
            received_at=START + timedelta(milliseconds=number),
            tenant="acme",
            source="kyb",
            source_kind="kyb-service",
            entity_key=entity_key("acme", service_id),
            body=sealed,
            body_key_id=key_id,
        )
        key = (delivery.entity_key or "").encode()
        records.append(KafkaRecord(NAMES.raw, 0, number, 0, key, encode(delivery), cloud_event_headers(delivery)))
    return records


def through(process: Process, records: Sequence[KafkaRecord]) -> list[Output]:
    """All outputs of the records, in batches, beginning without state."""
    state = DictTable()
    outputs: list[Output] = []
    for first in range(0, len(records), BATCH):
        result = process(0, records[first : first + BATCH], state)
        state.write(result.writes)
        outputs += result.outputs
    return outputs


def limit(records: Sequence[KafkaRecord]) -> None:
    """Reads each record and writes one of the same size."""
    for record in records:
        encode(decode(record.value or b"", WebhookDelivery))


def best_of(runs: int, work: Callable[[], object]) -> float:
    """The shortest CPU time of so many runs, in seconds."""
    times = []
    for _ in range(runs):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


def main() -> None:
    """Measures and prints."""
    key = bytes(32)
    records = raw_records(BodyEncryptor("k1", key))
    intake = IntakeProcess(POLICIES, NAMES, BodyDecryptor({"k1": key}))
    cases = CasesProcess(POLICIES, NAMES)
    events = [
        KafkaRecord(output.topic, 0, offset, 0, output.key, output.value, output.headers)
        for offset, output in enumerate(through(intake, records))
        if output.topic == NAMES.case_events
    ]
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, best of {RUNS} runs of CPU time")
    base = best_of(RUNS, lambda: limit(records)) / len(records)
    print(f"{'limit: decode + encode':34} {1 / base:9.0f}/s {base * 1e6:7.1f} us")
    for name, process, given in ((f"intake ({RAW})", intake, records), (f"cases ({CASE_EVENTS})", cases, events)):
        cost = best_of(RUNS, lambda process=process, given=given: through(process, given)) / len(given)  # type: ignore[misc]
        print(f"{name:34} {1 / cost:9.0f}/s {cost * 1e6:7.1f} us   {base / cost:5.1%} of the limit")
    for size, worst in (("1 MiB", worst_body), ("64 KiB", worst_small_body)):
        seconds, shape = worst()
        print(f"{f'worst body of {size}':34} {seconds * 1e3:9.1f} ms: {shape}")


if __name__ == "__main__":
    main()
