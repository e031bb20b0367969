from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import pytest

from bench.door.wrk import BODY_BYTES, signed_bodies

SECONDS = 280
"""Alone it takes a sixth; beside the tests of failures it has a share of two cores."""

LINE = re.compile(
    r"^\| \((?P<letter>a|c)\) [^|]+\| 16 \| (?P<rate>[\d,]+) \| (?P<share>\d+)% \| \d+ \| [\d.]+ \| [\d.]+ \| [\d.]+ \|$"
)


def test_bodies_have_the_size_that_the_table_speaks_of() -> None:
    """600 bytes each, all different."""
    bodies = [body for body, _ in signed_bodies(b"secret")]
    assert {len(body.encode()) for body in bodies} == {BODY_BYTES}
    assert len(set(bodies)) == len(bodies)


@pytest.mark.kafka
@pytest.mark.stack
@pytest.mark.timeout(SECONDS + 20)
def test_the_benchmark_of_the_ingress_runs() -> None:
    """Its short form: a line for bare aiohttp and one for the ingress, on a real Kafka, without a refused or failed request."""
    if shutil.which("wrk") is None:
        if os.environ.get("CI"):
            pytest.fail("wrk is missing: apt-get install wrk")
        pytest.skip("wrk is missing: apt-get install wrk")
    options = ["--seconds", "1", "--rounds", "1", "--processes", "1", "--connections", "16", "--kinds", "a", "c", "--no-paced"]
    done = subprocess.run(
        [sys.executable, "-m", "bench.door", *options], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr[-500:]
    found = [match for line in done.stdout.splitlines() if (match := LINE.match(line))]
    assert [match["letter"] for match in found] == ["a", "c"]
    assert found[0]["share"] == "100"
    assert all(int(match["rate"].replace(",", "")) > 0 for match in found)
