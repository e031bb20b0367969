from __future__ import annotations

import re
import subprocess
import sys

import pytest

from bench.views.questions import questions
from sinks.migrate import views

SECONDS = 280
"""Alone it takes a sixth; beside the tests of failures it has a share of two cores."""


def test_every_view_is_asked() -> None:
    """A new view has a question in the benchmark without anybody thinking of it."""
    assert {question.view for question in questions()} == {name for name, _ in views()}


@pytest.mark.stack
@pytest.mark.timeout(SECONDS + 20)
def test_the_benchmark_of_the_views_runs() -> None:
    """Its short form: tables are filled, derived ones too, and every question is answered."""
    command = [sys.executable, "-m", "bench.views", "--cases", "2000", "--rounds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    rows = re.findall(
        r"^\| (\w+) \| [^|]+ \| \d+\.\d\d \| \d+\.\d\d[^|]* \| [\d.]+ \| ([\d,]+) \| [\d,]+ \|$", done.stdout, re.MULTILINE
    )
    assert len(rows) == len(questions())
    assert re.search(r"^events: [\d,]+ rows", done.stdout, re.MULTILINE)
    assert re.search(r"^case_states: [\d,]+ rows", done.stdout, re.MULTILINE)
