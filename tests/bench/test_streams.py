from __future__ import annotations

import re
import subprocess
import sys

import msgspec
import pytest

from bench.streams.filling import RECORD_BYTES, case_events, distinct, json_records, raw_deliveries
from kybstream.encryption import BodyDecryptor, BodyEncryptor
from schemas.codec import decode
from schemas.records import CaseEvent, WebhookDelivery

SECONDS = 280
"""Alone it takes a sixth; beside the tests of failures it has a share of two cores."""

LINE = re.compile(
    r"^\| (?P<letter>[a-z-]+): [^|]+\| [^|]+\| 1 \| (?P<rate>[\d,]+) \| (?P<share>\d*)%? \|  \| (?P<cpu>[\d.]+) \|$",
    re.MULTILINE,
)
SHORT = ["--records", "20000", "--deliveries", "8000", "--rounds", "1", "--processes", "1"]
LETTERS = ["limit", "dedupe", "intake", "worker", "cases"]


def test_json_records_have_the_size_that_the_table_speaks_of() -> None:
    """500 bytes each, and one in ten has the id of another."""
    rows = list(json_records(100))
    assert {len(value) for _, value, _ in rows} == {RECORD_BYTES}
    assert len({msgspec.json.decode(value)["id"] for _, value, _ in rows}) == distinct(100) == 90


def test_deliveries_have_the_size_that_the_table_speaks_of() -> None:
    """Bodies of 500 bytes, encrypted; one in ten is of the entity of another."""
    key = bytes(32)
    deliveries = [decode(value, WebhookDelivery) for _, value, _ in raw_deliveries(100, BodyEncryptor("k", key))]
    decryptor = BodyDecryptor({"k": key})
    bodies = [
        decryptor.decrypt(each.body, tenant=each.tenant, delivery_id=each.delivery_id, body_key_id=each.body_key_id or "")
        for each in deliveries
    ]
    assert {len(body) for body in bodies} == {RECORD_BYTES}
    assert len(set(bodies)) == len({each.entity_key for each in deliveries}) == distinct(100)


def test_case_events_are_distinct() -> None:
    """Each is told, so that the number of snapshots is the number of events."""
    events = [decode(value, CaseEvent) for _, value, _ in case_events(100)]
    assert len({event.event_id for event in events}) == 100
    assert len({event.case_id for event in events}) == 50


@pytest.mark.kafka
@pytest.mark.stack
@pytest.mark.timeout(SECONDS + 20)
def test_the_benchmark_of_the_streams_runs() -> None:
    """Its short form: the limit and ours come to their end on a real Kafka; no peer is installed for a test."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.streams", *SHORT, "--only", *LETTERS],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-500:]
    found = list(LINE.finditer(done.stdout))
    assert [match["letter"] for match in found] == LETTERS
    assert {match["share"] for match in found if match["letter"].startswith("limit")} == {"100"}
    assert all(int(match["rate"].replace(",", "")) > 0 and float(match["cpu"]) > 0 for match in found)
