"""The page of the worker's metrics says what the worker shows."""

from __future__ import annotations

from pathlib import Path

from kybstream.settings import Settings
from streams.liveness import Liveness
from streams.metrics import WorkerMetrics
from streams.worker import build_app
from tests.docs.metrics_page import assert_page_lists


async def test_the_page_lists_every_metric_of_the_worker(tmp_path: Path) -> None:
    """Name, type and labels of each, and no others. Faust's app wants an event loop that runs."""
    metrics = WorkerMetrics()
    app, _ = build_app(Settings.model_validate({"worker": {"data_dir": str(tmp_path), "store": "memory"}}), metrics)
    metrics.watch(app, Liveness(stalled_after=1, rebalance_seconds=1))
    assert_page_lists("worker-metrics.md", metrics, metrics.registry)
