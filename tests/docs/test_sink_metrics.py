"""The page of the sink's metrics says what the sink shows."""

from __future__ import annotations

import re

from prometheus_client.metrics_core import Metric

from sinks.metrics import Reading, SinkMetrics
from tests.docs.generate import REFERENCE

PAGE = REFERENCE / "sink-metrics.md"


def test_the_page_lists_every_metric_of_the_sink() -> None:
    """Name, type and labels of each, and no others."""
    metrics = SinkMetrics()
    metrics.watch(Reading)
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
