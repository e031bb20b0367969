"""docs/reliability.md: prose that is written by hand, and between markers what a campaign and the page of guarantees say."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import textwrap
from collections import defaultdict
from pathlib import Path

import psutil

from tests.chaos.campaign.running import Campaign, Recovery

_ROOT = Path(__file__).parents[3]
PAGE = _ROOT / "docs" / "reliability.md"
GUARANTEES = _ROOT / "docs" / "explanation" / "guarantees.md"
_TEST = re.compile(r"`((?:test_|Test)\w+)`")
_HEADING = re.compile(r"^## (\d+\. .+)$", re.MULTILINE)
_GIB = 1 << 30
_WIDTH = 100


def machine() -> str:
    """Cores and memory of this machine, and the commit of the code."""
    commit = subprocess.run(["git", "rev-parse", "--short=10", "HEAD"], cwd=_ROOT, check=True, capture_output=True, text=True)
    return f"{os.cpu_count()} cores, {psutil.virtual_memory().total / _GIB:.0f} GiB; commit {commit.stdout.strip()}"


def written(page: str, ended: Campaign, machine: str) -> str:
    """The page with what a campaign came to."""
    return with_guarantees(_between(page, "campaign", _campaign(ended, machine)))


def with_guarantees(page: str) -> str:
    """The page with each guarantee beside its tests, as the page of guarantees has them."""
    return _between(page, "guarantees", _guarantees(GUARANTEES.read_text(encoding="utf-8")))


def named_tests(guarantees: str) -> dict[str, list[str]]:
    """The tests that the page of guarantees names, by guarantee."""
    parts = _HEADING.split(guarantees.partition("\n## Not promised")[0])[1:]
    return {title: list(dict.fromkeys(_TEST.findall(text))) for title, text in zip(parts[::2], parts[1::2], strict=True)}


def _between(page: str, name: str, text: str) -> str:
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    head, _, rest = page.partition(begin)
    _, _, tail = rest.partition(end)
    return f"{head}{begin}\n{text}\n{end}{tail}"


def _campaign(ended: Campaign, machine: str) -> str:
    verdict = ended.verdict
    outcome = "**Nothing was lost, doubled or misjudged.**"
    if verdict.wrong:
        outcome = "**Wrong:**\n\n" + "\n".join(f"- {sentence}" for sentence in verdict.wrong)
    command = f"make chaos SEED={ended.seed} FAULTS={len(ended.recoveries)} RATE={ended.rate:g}"
    figures = (
        f"{len(ended.recoveries)} faults; {verdict.deliveries:,} deliveries got a 200, {ended.hostile:,} hostile bodies "
        f"were sent; {verdict.rows:,} deliveries are in ClickHouse, with the probes and those whose answer was lost. "
        f"{verdict.cases:,} cases were compared with the plan, {verdict.modelled:,} with the model."
    )
    lines = [
        f"`{command}`, {ended.seconds / 60:.0f} minutes, on {machine}.",
        "",
        textwrap.fill(figures, _WIDTH),
        "",
        outcome,
        "",
        "| fault | times | seconds until queryable, median | worst |",
        "| --- | ---: | ---: | ---: |",
    ]
    return "\n".join(lines + _rows(ended.recoveries))


def _rows(recoveries: list[Recovery]) -> list[str]:
    by_kind: defaultdict[str, list[float]] = defaultdict(list)
    for each in recoveries:
        by_kind[each.kind].append(each.seconds)
    return [
        f"| {kind} | {len(seconds)} | {statistics.median(seconds):.1f} | {max(seconds):.1f} |"
        for kind, seconds in sorted(by_kind.items())
    ]


def _guarantees(page: str) -> str:
    lines = ["| guarantee | fails without it |", "| --- | --- |"]
    lines += [f"| {title} | {', '.join(f'`{name}`' for name in names)} |" for title, names in named_tests(page).items()]
    return "\n".join(lines)
