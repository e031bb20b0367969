from __future__ import annotations

import re
import subprocess
import sys

import pytest

from bench.sink.filling import KINDS, Kind
from schemas.codec import decode

SECONDS = 280
"""Alone it takes a sixth; beside the tests of failures it has a share of two cores."""

LINE = re.compile(r"^\| (?P<kind>[^|]+) \| (?P<way>[a-z]+): [^|]+\| (?P<rate>[\d,]+) \| (?P<share>\d+)% \|", re.MULTILINE)
SHORT = ["--records", "60000", "--rounds", "1", "--only", "d100"]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.letter)
def test_records_have_the_size_that_the_table_speaks_of(kind: Kind) -> None:
    """Each value has exactly so many bytes, is a record of its kind, and has an id of its own."""
    rows = list(kind.rows(300))
    assert {len(value) for _, value, _ in rows} == {kind.value_bytes}
    ids = {
        getattr(decode(value, kind.record), f"{kind.table.rstrip('s').replace('deliverie', 'delivery')}_id")
        for _, value, _ in rows
    }
    assert len(ids) == 300


@pytest.mark.kafka
@pytest.mark.stack
@pytest.mark.timeout(SECONDS + 20)
def test_the_benchmark_of_the_sink_runs() -> None:
    """Its short form: plain consumption, rows and the sink come to their end on a real Kafka, a line for each."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.sink", *SHORT], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr[-500:]
    found = list(LINE.finditer(done.stdout))
    assert [match["way"] for match in found] == ["consume", "rows", "sink"]
    assert all(int(match["rate"].replace(",", "")) > 0 for match in found)
