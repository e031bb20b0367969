"""`kyb-stream demo`: the whole in a minute, checked by itself; and what its check notices when something is wrong."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from kybstream.operations.demonstration import CaseRow, wrong_cases, wrong_deliveries
from kybstream.operations.reconcile import Account, Comparison
from kybstream.simulator import ExpectedCase, PlannedDelivery, SentDelivery
from kybstream.simulator.planned import Verdict
from sinks.landed import LandedIds
from tests.support.commands import Background
from tests.support.waiting import wait_until

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PATIENCE_SECONDS = 150.0


@pytest.mark.stack
@pytest.mark.timeout(200)
async def test_the_demo_reconciles_reports_and_leaves_nothing(tmp_path: Path) -> None:
    """Exit code 0, a report that agrees with itself, no process and no folder left."""
    (tmp_path / "folders").mkdir()
    log, env = tmp_path / "demo.log", {"TMPDIR": str(tmp_path / "folders")}
    demo = Background("demo", "--cases", "40", "--seed", "7", "--json", log=log, env=env)
    children: set[psutil.Process] = set()

    def ended() -> bool:
        if demo.exit_code is None:
            children.update(demo.children())
        return demo.exit_code is not None

    try:
        await wait_until(ended, PATIENCE_SECONDS, "the demo has ended")
    finally:
        await demo.close()
    assert demo.exit_code == 0, demo.output
    assert len({child.pid for child in children}) >= 5
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)
    assert list((tmp_path / "folders").iterdir()) == []

    [line] = [line for line in demo.output.splitlines() if line.startswith("{")]
    report = json.loads(line)
    assert report["wrong"] == []
    verdicts = report["deliveries"]
    played = re.search(r"playing (\d+) deliveries of 40 cases", demo.output)
    assert played
    assert sum(verdicts.values()) == int(played[1]) <= report["requests"]
    assert all(verdicts[verdict] > 0 for verdict in ("new", "duplicate", "quarantined"))
    assert report["duplicate_rate"] == pytest.approx(verdicts["duplicate"] / sum(verdicts.values()))
    assert sum(count["cases"] for count in report["cases"]) >= 40
    assert {count["match_state"] for count in report["cases"]} == {"matched", "kyb_only", "kyc_only", "conflict"}
    closed = sum(count["cases"] for count in report["cases"] if count["outcome"] in {"completed", "rejected"})
    assert sum(latency["count"] for latency in report["case_latency"].values()) == closed
    assert report["webhook_to_queryable"]["count"] == sum(verdicts.values())
    for latency in (report["webhook_to_queryable"], *report["case_latency"].values()):
        assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"]
    assert report["events"].keys() == {
        *("service_initiated", "service_resolved", "document_purchase_request", "ongoing_aml_webhook", "kyc_result")
    }
    assert sum(report["events"].values()) == verdicts["new"]
    assert 0 < report["seconds"] < PATIENCE_SECONDS
    assert 100 < report["peak_memory_mib"] < 2_000


@pytest.mark.stack
async def test_ctrl_c_ends_the_demo_and_leaves_nothing(tmp_path: Path) -> None:
    """While it starts, too: exit code 130, no process, no folder."""
    (tmp_path / "folders").mkdir()
    demo = Background("demo", log=tmp_path / "demo.log", env={"TMPDIR": str(tmp_path / "folders")})
    try:
        await demo.printed("making topics and tables")
        children = demo.children()
        demo.send(signal.SIGINT)
        assert await demo.ended() == 130
        assert children
        assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)
        assert list((tmp_path / "folders").iterdir()) == []
        assert "Traceback" not in demo.output
    finally:
        await demo.close()


def sent(label: str, delivery_id: str, verdict: Verdict = "new") -> SentDelivery:
    """One acknowledged attempt."""
    planned = PlannedDelivery(at=0, source_kind="kyb-service", body=b"", label=label, case="c", verdict=verdict)
    return SentDelivery(planned=planned, attempt=1, sent_at=0, status=200, delivery_id=delivery_id)


THREE: Sequence[SentDelivery] = (sent("a", "1"), sent("a", "2", "duplicate"), sent("x", "3", "quarantined"))


def test_deliveries_as_planned_are_not_reported() -> None:
    """In whichever order the copies were judged."""
    assert wrong_deliveries(THREE, {"1": "new", "2": "duplicate", "3": "quarantined"}) == []
    assert wrong_deliveries(THREE, {"1": "duplicate", "2": "new", "3": "quarantined"}) == []


@pytest.mark.parametrize(
    ("verdicts", "finding"),
    [
        ({"1": "new", "3": "quarantined"}, "1 acknowledged deliveries are not in ClickHouse: 2"),
        ({}, "3 acknowledged deliveries are not in ClickHouse: 1, 2, 3"),
        (
            {"1": "new", "2": "new", "3": "quarantined"},
            "1 events are judged wrongly: a (2 new instead of 1 duplicate, 1 new)",
        ),
        (
            {"1": "duplicate", "2": "duplicate", "3": "quarantined"},
            "1 events are judged wrongly: a (2 duplicate instead of 1 duplicate, 1 new)",
        ),
        ({"1": "new", "2": "duplicate", "3": "new"}, "1 events are judged wrongly: x (1 new instead of 1 quarantined)"),
    ],
)
def test_a_missing_or_misjudged_delivery_is_reported(verdicts: dict[str, str], finding: str) -> None:
    """With its id, or its event and what was found instead."""
    assert wrong_deliveries(THREE, verdicts) == [finding]


CASE = ExpectedCase(case_id="k", case="c", match_state="matched", outcome="completed", kyb_events=2, kyc_events=1)
MAYBE = ExpectedCase(
    case_id="kyc:s", case="c", required=False, match_state=None, outcome="merged", kyb_events=None, kyc_events=None
)
RIGHT = CaseRow("matched", "completed", 2, 1)


def test_cases_as_planned_are_not_reported() -> None:
    """A provisional case that was not needed may be there or not."""
    assert wrong_cases([CASE, MAYBE], {"k": RIGHT}) == []
    assert wrong_cases([CASE, MAYBE], {"k": RIGHT, "kyc:s": CaseRow("kyc_only", "merged", 0, 1)}) == []


@pytest.mark.parametrize(
    ("cases", "finding"),
    [
        ({}, "case k is missing"),
        ({"k": CaseRow("kyb_only", "completed", 2, 1)}, "case k: match state is kyb_only instead of matched"),
        ({"k": CaseRow("matched", "open", 2, 1)}, "case k: outcome is open instead of completed"),
        ({"k": CaseRow("matched", "completed", 3, 1)}, "case k: number of KYB events is 3 instead of 2"),
        ({"k": CaseRow("matched", "completed", 2, 0)}, "case k: number of KYC events is 0 instead of 1"),
        ({"k": RIGHT, "kyc:s": CaseRow("kyc_only", "open", 0, 1)}, "case kyc:s: outcome is open instead of merged"),
        ({"k": RIGHT, "ghost": RIGHT}, "1 cases were not planned: ghost"),
    ],
)
def test_a_wrong_case_is_reported(cases: dict[str, CaseRow], finding: str) -> None:
    """With what is wrong about it."""
    assert wrong_cases([CASE, MAYBE], cases) == [finding]


def test_an_account_balances_when_both_agree() -> None:
    """Copies in the raw topic are harmless; what left the topic by its retention is not missed."""
    found = Comparison()
    found.take(["1", "2", "1"], LandedIds(["2", "1"], ["0"]))
    assert (found.raw, found.repeated, found.missing, found.doubled, found.unknown) == (2, 1, [], [], [])


@pytest.mark.parametrize(
    ("rows", "finding"),
    [
        (["1"], ("missing", "1 in the raw topic, but not in ClickHouse: 2")),
        (["1", "2", "2"], ("doubled", "1 more than once in ClickHouse: 2")),
        (["1", "2", "3"], ("unknown", "1 in ClickHouse, but not in the raw topic: 3")),
    ],
)
def test_an_account_names_what_does_not_balance(rows: list[str], finding: tuple[str, str]) -> None:
    """Missing, doubled or unknown, each delivery by its id."""
    found = Comparison()
    found.take(["1", "2"], LandedIds(rows, []))
    name, sentence = finding
    account = Account(2, 0, 2, {}, **{name: getattr(found, name)})
    assert (account.balanced, account.findings()) == (False, [sentence])


def test_an_account_counts_what_it_has_no_room_to_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Millions of missing deliveries are named up to a limit, and counted beyond it."""
    monkeypatch.setattr("kybstream.operations.reconcile.NAMED", 3)
    found = Comparison()
    found.take([str(number) for number in range(5)], LandedIds([], []))
    account = Account(5, 0, 5, {}, missing=found.missing, unnamed=found.unnamed)
    assert account.findings() == ["5 in the raw topic, but not in ClickHouse: 0, 1, 2"]
