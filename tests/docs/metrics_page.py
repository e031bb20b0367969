"""A page of the reference that lists metrics, held to the metrics."""

from __future__ import annotations

import re

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from tests.docs.generate import REFERENCE

_ROW = re.compile(r"^\| `(kyb_\w+)` \| (counter|gauge|histogram) \|([^|]*)\|", re.MULTILINE)


def assert_page_lists(page: str, metrics: object, registry: CollectorRegistry) -> None:
    """Name, type and labels of each metric of the registry, and no others, are in the page's tables.

    Args:
        page: Its file's name.
        metrics: Has the declared metrics as attributes.
        registry: Theirs; what is watched is in it, too.
    """
    rows = _ROW.findall((REFERENCE / page).read_text(encoding="utf-8"))
    assert {name: kind for name, kind, _ in rows} == {_name(family): family.type for family in registry.collect()}
    labels = {name: tuple(re.findall(r"`(\w+)`", listed)) for name, _, listed in rows}
    declared = {
        f"{each._name}_total" if each._type == "counter" else each._name: each._labelnames
        for each in vars(metrics).values()
        if hasattr(each, "_labelnames")
    }
    assert labels.items() >= declared.items()


def _name(family: Metric) -> str:
    return f"{family.name}_total" if family.type == "counter" else family.name
