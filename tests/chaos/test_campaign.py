"""The campaign in its short form, and that its verdict sees damage."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from kybstream.simulator import PlannedDelivery, SentDelivery
from schemas.records import Case, CaseEvent
from tests.chaos.campaign.page import GUARANTEES, PAGE, named_tests, with_guarantees, written
from tests.chaos.campaign.running import Campaign, Recovery, campaign
from tests.chaos.campaign.verdict import Row, Verdict, wrong_rows, wrong_snapshots
from tests.streams.histories import START
from tests.streams.model import Rules, expected_case

SEED, FAULTS, RATE = 13, 4, 25.0
GUARANTEES_NUMBER = 10


@pytest.mark.kafka
@pytest.mark.stack
@pytest.mark.timeout(420)
async def test_no_fault_of_the_campaign_loses_doubles_or_misjudges_anything(tmp_path: Path) -> None:
    """Three brokers, two each of ingress, worker and sink, hostile bodies in the load: all is as if nothing had happened."""
    ended = await campaign(tmp_path, seed=SEED, faults=FAULTS, rate=RATE, say=print)
    assert ended.verdict.wrong == []
    assert len(ended.recoveries) == FAULTS
    assert min(ended.verdict.modelled, ended.verdict.cases, ended.verdict.deliveries) > 0


def test_the_page_of_reliability_names_every_guarantee_with_tests_that_exist() -> None:
    """Its table is that of the page of guarantees (`python -m tests.docs.generate`), and each name there is that of a test."""
    page = PAGE.read_text(encoding="utf-8")
    assert with_guarantees(page) == page
    source = "\n".join(path.read_text(encoding="utf-8") for path in Path(__file__).parents[1].rglob("*.py"))
    known = set(re.findall(r"^\s*(?:async def|def|class) (\w+)|^(\w+) = ", source, re.MULTILINE))
    defined = {name for pair in known for name in pair}
    named = named_tests(GUARANTEES.read_text(encoding="utf-8"))
    assert len(named) == GUARANTEES_NUMBER
    for title, names in named.items():
        assert names, title
        assert [name for name in names if name not in defined] == [], title


def test_the_page_says_what_a_campaign_came_to() -> None:
    """Figures, recoveries by kind, and anything wrong."""
    recoveries = [Recovery("SIGKILL of a worker", "worker-0", 4.0), Recovery("SIGKILL of a worker", "worker-1", 6.0)]
    ended = Campaign(7, 40.0, 600.0, recoveries, 9, Verdict(["1 events are there twice"], 1234, 1250, 55, 60))
    page = written(PAGE.read_text(encoding="utf-8"), ended, "2 cores")
    assert "`make chaos SEED=7 FAULTS=2 RATE=40`, 10 minutes, on 2 cores." in page
    assert "| SIGKILL of a worker | 2 | 5.0 | 6.0 |" in page
    assert "1,234 deliveries got a 200" in page
    assert "- 1 events are there twice" in page


def _sent(label: str, delivery_id: str, verdict: str = "new") -> SentDelivery:
    return SentDelivery(
        planned=PlannedDelivery(
            at=0.0,
            source_kind="kyb-service",
            body=b"{}",
            label=label,
            case="c",
            verdict="quarantined" if verdict == "quarantined" else "new",
        ),
        attempt=1,
        sent_at=0.0,
        status=200,
        delivery_id=delivery_id,
    )


SENT = [_sent("a", "d1"), _sent("a", "d2"), _sent("b", "d3"), _sent("q", "d4", "quarantined")]
ROWS = [Row("d0", "new", "e1"), Row("d1", "duplicate", "e1"), Row("d2", "duplicate", "e1"), Row("d3", "new", "e2")]
ROWS += [Row("d4", "quarantined", ""), Row("h1", "new", "e3")]
EVENTS = ["e1", "e2", "e3"]


def test_an_outcome_as_promised_is_not_wrong() -> None:
    """The delivery that made an event may be one whose answer was lost (d0)."""
    assert wrong_rows(SENT, ["h1"], ROWS, EVENTS) == []


@pytest.mark.parametrize(
    ("rows", "events", "told"),
    [
        (
            [row for row in ROWS if row.delivery_id != "d2"],
            EVENTS,
            "1 acknowledged deliveries are not in ClickHouse, such as d2",
        ),
        ([row for row in ROWS if row.delivery_id != "h1"], ["e1", "e2"], "1 acknowledged deliveries are not in ClickHouse"),
        ([*ROWS, ROWS[1]], EVENTS, "1 deliveries are there twice, such as d1"),
        (ROWS, [*EVENTS, "e2"], "1 events are there twice, such as e2"),
        ([*ROWS[:1], Row("d1", "new", "e1"), *ROWS[2:]], EVENTS, "1 events are new more than once, such as e1"),
        (ROWS, ["e1", "e2"], "1 events have no delivery that made them, or the other way round, such as e3"),
        ([*ROWS[:2], Row("d2", "new", "e4"), *ROWS[3:]], [*EVENTS, "e4"], "1 webhooks have more than one event, such as a"),
        ([*ROWS[:3], Row("d3", "duplicate", "e1"), *ROWS[4:]], ["e1", "e3"], "1 events belong to several webhooks, such as e1"),
        ([*ROWS[:4], Row("d4", "new", "e5"), *ROWS[5:]], [*EVENTS, "e5"], "q is new"),
    ],
)
def test_the_verdict_sees_what_is_lost_doubled_or_misjudged(rows: list[Row], events: list[str], told: str) -> None:
    """Each kind of damage gives its own sentence."""
    assert any(sentence.startswith(told) for sentence in wrong_rows(SENT, ["h1"], rows, events))


def test_the_verdict_sees_a_case_that_is_not_what_its_events_make() -> None:
    """A snapshot with one figure changed, an older one, or none."""
    rules = {"acme": Rules(timedelta(days=90), kyc_always=False)}
    events = [
        CaseEvent(
            event_id=f"e{number}",
            tenant="acme",
            case_id="s1",
            received_at=START + timedelta(hours=number),
            kind="kyb",
            type=name,
            status="resolved",
            services=("kyc",),
        )
        for number, name in enumerate(("service_initiated", "service_resolved"))
    ]
    right = expected_case("acme", "s1", events, rules["acme"])
    assert wrong_snapshots([*events, events[0]], [right], rules) == ([], 1)
    older = expected_case("acme", "s1", events[:1], rules["acme"])
    snapshots: list[list[Case]] = [[], [older], [msgspec.structs.replace(right, aml_alerts=1)]]
    for damaged in snapshots:
        told, _ = wrong_snapshots(events, damaged, rules)
        assert told == ["1 cases are not what the model makes of their events, such as s1"]
