from __future__ import annotations

import re
import subprocess
import sys

import pytest

SECONDS = 280
"""Alone it takes a sixth; beside the tests of failures it has a share of two cores."""


@pytest.mark.kafka
@pytest.mark.stack
@pytest.mark.timeout(SECONDS + 20)
def test_the_benchmark_of_reconcile_runs_and_every_finding_is_named() -> None:
    """Its short form on a real Kafka: missing, doubled and unknown deliveries are named, or it fails."""
    command = [sys.executable, "-m", "bench.reconcile", "--deliveries", "20000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    assert re.search(r"^\| reconcile.+\| [\d.]+ \| [\d,]+ \| [\d.]+ \| [\d,]+ \|$", done.stdout, re.MULTILINE)
