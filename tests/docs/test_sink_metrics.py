"""The page of the sink's metrics says what the sink shows."""

from __future__ import annotations

from sinks.metrics import Reading, SinkMetrics
from tests.docs.metrics_page import assert_page_lists


def test_the_page_lists_every_metric_of_the_sink() -> None:
    """Name, type and labels of each, and no others."""
    metrics = SinkMetrics()
    metrics.watch(Reading)
    assert_page_lists("sink-metrics.md", metrics, metrics.registry)
