"""The page of the worker's metrics says what the worker shows."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.metrics_core import Metric

from kybstream.settings import Settings
from streams.liveness import Liveness
from streams.metrics import WorkerMetrics
from streams.worker import build_app
from tests.docs.generate import REFERENCE

PAGE = REFERENCE / "worker-metrics.md"


def test_the_page_lists_every_metric_of_the_worker(tmp_path: Path) -> None:
    """Name, type and labels of each, and no others."""
    metrics = WorkerMetrics()
    app, _ = build_app(Settings.model_validate({"worker": {"data_dir": str(tmp_path), "store": "memory"}}), metrics)
    metrics.watch(app, Liveness(stalled_after=1, rebalance_seconds=1))
    shown = {_name(family): family.type for family in metrics.registry.collect()}
    row = re.compile(r"^\| `(kyb_\w+)` \| (counter|gauge|histogram) \|([^|]*)\|", re.MULTILINE)
    rows = row.findall(PAGE.read_text(encoding="utf-8"))
    assert {name: kind for name, kind, _ in rows} == shown
    labels = {name: tuple(re.findall(r"`(\w+)`", listed)) for name, _, listed in rows}
    declared = {
        f"{each._name}_total" if each._type == "counter" else each._name: each._labelnames
        for each in vars(metrics).values()
        if hasattr(each, "_labelnames")
    }
    assert labels.items() >= declared.items()


def _name(family: Metric) -> str:
    return f"{family.name}_total" if family.type == "counter" else family.name
