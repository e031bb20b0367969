"""What pm4py finds in two files, as JSON: a process of its own, because pm4py takes seconds to import and greets on the way."""

from __future__ import annotations

import io
import json
import sys
import warnings
from contextlib import redirect_stdout
from typing import Any

from tests.docs.pages import ROOT, blocks

Edges = list[list[Any]]


def _map(found: tuple[Any, Any, Any]) -> dict[str, Any]:
    """A directly-follows graph: how often one activity follows another, and which begin and end."""
    edges, start, end = found
    return {"edges": sorted([*pair, int(count)] for pair, count in edges.items()), "start": dict(start), "end": dict(end)}


def main(xes: str, ocel: str) -> dict[str, Any]:
    """Reads both files and discovers what happens in which order; and does in their folder what the page for users says."""
    warnings.simplefilter("ignore")
    import pm4py  # type: ignore[import-untyped]  # noqa: PLC0415 (only this process does)

    [example] = [block.text for block in blocks(ROOT / "docs/how-to/process-mining.md") if block.language == "python"]
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(example, {})  # noqa: S102 (the page is ours)
    log = pm4py.read_xes(xes, show_progress_bar=False)
    net = pm4py.discover_petri_net_inductive(log)
    read = pm4py.read_ocel2_json(ocel)
    return {
        "printed": printed.getvalue(),
        "columns": {name: str(kind) for name, kind in log.dtypes.items()},
        "cases": int(log["case:concept:name"].nunique()),
        "map": _map(pm4py.discover_dfg(log)),
        "fitness": float(pm4py.fitness_token_based_replay(log, *net)["log_fitness"]),
        "activities": sorted(each.label for each in net[0].transitions if each.label),
        "variants": sorted(len(each) for each in pm4py.get_variants(log)),
        "objects": {str(name): int(count) for name, count in read.objects["ocel:type"].value_counts().items()},
        "relations": sorted({str(each) for each in read.o2o["ocel:qualifier"]}),
        "maps": {
            name: _map(pm4py.discover_dfg(pm4py.ocel_flattening(read, name))) for name in pm4py.ocel_get_object_types(read)
        },
    }


def run() -> None:
    """The process."""
    sys.stdout.write("\n" + json.dumps(main(*sys.argv[1:])) + "\n")
