"""The reference pages say what the code does: four are generated, and http.md is held against the ingress."""

from __future__ import annotations

import ast
import re
from types import ModuleType
from typing import get_args

import pytest

from ingress import problems
from ingress.metrics import IngressMetrics
from ingress.problems import Problem
from ingress.signatures.verifier import Verdict
from ingress.sources import Refusal
from schemas.providers import body
from sinks.framing import Unframable
from streams import fold, folding, intake, linking, links, processing
from tests.docs.codes import ANOMALIES, DEAD_LETTER_REASONS, PLACEMENTS
from tests.docs.generate import PAGES, REFERENCE, generated
from tests.docs.pages import ROOT

HTTP = REFERENCE / "http.md"
HOW = "it is not what the code says now: run `python -m tests.docs.generate`"

# Text constants of these modules that are no codes of records.
_NO_CODES = {
    fold.OTHERS,
    linking.MORE_CASES,
    folding.PENDING_SUBJECT,
    linking.PROVISIONAL_PREFIX,
    linking.WITHDRAWN,
    intake.ENCRYPTED,
}


@pytest.mark.stack
@pytest.mark.parametrize("name", PAGES)
async def test_a_generated_page_is_up_to_date(name: str) -> None:
    """The page in the folder is what would be generated now."""
    assert (REFERENCE / name).read_text(encoding="utf-8") == await generated(name), f"{name}: {HOW}"


def test_every_code_is_explained() -> None:
    """Reasons, placements and anomalies that the worker and the sink can write are in topics.md, and no others."""
    documented = DEAD_LETTER_REASONS.keys() | PLACEMENTS.keys() | ANOMALIES.keys()
    for module in (linking, links, folding, fold, intake, processing, body):
        assert _texts(module) - _NO_CODES <= documented, module.__name__
    of_the_sink = set(re.findall(r"`(\w+)`", Unframable.__doc__ or ""))
    assert of_the_sink == {code for code, text in DEAD_LETTER_REASONS.items() if text.startswith("stage sink")}


def _texts(module: ModuleType) -> set[str]:
    tree = ast.parse((ROOT / (module.__name__.replace(".", "/") + ".py")).read_text(encoding="utf-8"))
    return {
        node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        and not any(isinstance(target, ast.Name) and target.id.startswith("_") for target in node.targets)
    }


def test_http_lists_every_problem() -> None:
    """Status and type of each error answer of the ingress are a row of http.md."""
    rows = set(re.findall(r"^\| (\d{3}) \| `([a-z-]+)` \|", HTTP.read_text(encoding="utf-8"), re.MULTILINE))
    known = {(str(int(each.status)), each.code) for each in vars(problems).values() if isinstance(each, Problem)}
    assert rows == known | {("503", "not-ready")}


def test_http_lists_every_reason() -> None:
    """Each reason that the ingress counts is a row of http.md, with its status."""
    code = "".join((ROOT / "ingress" / name).read_text(encoding="utf-8") for name in ("webhooks.py", "heads.py"))
    known = {f"signature_{verdict}" for verdict in Verdict if not verdict.accepted} | set(get_args(Refusal))
    for written_as in (
        r'_RefusedError\(problems\.\w+, "(\w+)"',
        r'outcome = "(\w+)"',
        r'_count\([^"\n]*"(\w+)"\)',
        r'^REPLAYED = "(\w+)"',
        r'return "(\w+)", problems\.',
    ):
        known |= set(re.findall(written_as, code, re.MULTILINE))
    rows = set(re.findall(r"^\| `(\w+)` \| \d{3} \|", HTTP.read_text(encoding="utf-8"), re.MULTILINE))
    assert rows == known


def test_http_lists_every_metric() -> None:
    """Each metric of the ingress is a row of http.md, with its labels."""
    row = re.compile(r"^\| `(kyb_\w+)` \| (?:counter|gauge|histogram) \|([^|]*)\|", re.MULTILINE)
    rows = dict(row.findall(HTTP.read_text(encoding="utf-8")))
    metrics = IngressMetrics()
    known = {}
    for metric in vars(metrics).values():
        if hasattr(metric, "_labelnames"):
            name = metric._name + ("_total" if metric._type == "counter" else "")
            known[name] = ", ".join(f"`{label}`" for label in metric._labelnames)
    assert {name: labels.strip() for name, labels in rows.items()} == known
