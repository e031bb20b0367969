"""Fixtures of the ingress's failures."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

import pytest

from deploy.embedded.apache_kafka import KafkaNode
from tests.chaos.door import MakeDoor, door
from tests.chaos.failures import SEED


@pytest.fixture
def open_door(breakable_kafka: KafkaNode, topic_prefix: str, tmp_path: Path) -> MakeDoor:
    """Makes an ingress on the node that the test breaks; give it `spool_dir`."""
    return partial(door, tmp_path, bootstrap_servers=breakable_kafka.bootstrap_servers, topic_prefix=topic_prefix)


@pytest.fixture
def dice() -> random.Random:
    """Chooses the moments."""
    print(f"\nKYB_STREAM_CHAOS_SEED={SEED}")  # noqa: T201 (shown when the test fails)
    return random.Random(SEED)  # noqa: S311
