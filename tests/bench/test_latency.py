from __future__ import annotations

import re
import subprocess
import sys

import pytest

from bench.latency.__main__ import STEPS

SECONDS = 280
"""Alone it takes a sixth; beside the tests of failures it has a share of two cores."""

LINE = re.compile(r"^\| 50 \|(?P<steps>(?: [\d,]+ / [\d,]+ \|)+)$", re.MULTILINE)


@pytest.mark.kafka
@pytest.mark.stack
@pytest.mark.timeout(SECONDS + 20)
def test_the_benchmark_of_the_latency_runs() -> None:
    """Its short form: webhooks pass a real Kafka and land as cases; each step is told, and none is before the one before it."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.latency", "--rates", "50", "--seconds", "8"],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-500:]
    (found,) = LINE.finditer(done.stdout)
    medians = [float(step.split("/")[0].replace(",", "")) for step in found["steps"].strip(" |").split("|")]
    assert len(medians) == len(STEPS)
    answered, judged, told, delivery, case, _ = medians
    assert 0 < answered <= judged <= told <= case
    assert judged <= delivery
