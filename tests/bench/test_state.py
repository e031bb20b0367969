from __future__ import annotations

import re
import subprocess
import sys

import msgspec
import pytest

from bench.state.filling import Cases, typical_case
from streams.intake_state import IntakeState
from streams.processing import read_case_state
from streams.worker import CASES_TABLE, INTAKE_TABLE

SECONDS = 280
"""Alone it takes a sixth; beside the tests of failures it has a share of two cores."""


def test_the_cases_are_distinct_and_as_large_as_the_typical_one() -> None:
    """Each has entries under keys of its own, which the worker can read, of the size of what intake and cases really write."""
    entries = typical_case()
    assert {table: len(values) for table, values in entries.items()} == {INTAKE_TABLE: 2, CASES_TABLE: 1}
    (state,) = entries[CASES_TABLE].values()
    assert len(read_case_state(state).facts) == 8  # six of KYB, the link, the result
    want = sorted(len(key) + len(value) for values in entries.values() for key, value in values.items())
    cases = Cases(entries)
    first, second = list(cases.rows()), list(cases.rows())
    assert not {key for _, key, _ in first} & {key for _, key, _ in second}
    for rows in (first, second):
        assert sorted(len(key) + len(value) for _, key, value in rows) == want
        for table, _, value in rows:
            msgspec.msgpack.decode(value, type=IntakeState) if table == INTAKE_TABLE else read_case_state(value)


@pytest.mark.kafka
@pytest.mark.stack
@pytest.mark.timeout(SECONDS + 20)
def test_the_benchmark_of_the_state_runs() -> None:
    """Its short form: bytes a case, a turn of the timer, seconds to ready and after a kill, on a real Kafka."""
    command = [sys.executable, "-m", "bench.state", "--keys", "600"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    assert re.search(r"^\| together \| [\d,]+ \| [\d,]+ \|$", done.stdout, re.MULTILINE)
    assert len(re.findall(r"^\| start .+ \| \d+\.\d s \|$", done.stdout, re.MULTILINE)) == 3
    assert re.search(r"^\| turn of the expiry timer, 600 cases of which 100 are due \| \d+ ms \|$", done.stdout, re.MULTILINE)
    assert re.search(r"^\| a worker killed under load: .+ \| \d+\.\d s \|$", done.stdout, re.MULTILINE)
    assert len(re.findall(r"bytes a case \| [\d,]+ \|$", done.stdout, re.MULTILINE)) == 3
