"""The state of a case is within its size whatever fills it: each part alone, and all of them together."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from kybstream.ids import derived_id
from schemas.codec import encode
from schemas.providers import kyb
from schemas.providers.fields import MAX_CODE_BYTES, MAX_NAME_BYTES
from schemas.records import CaseEvent
from streams.facts import KEPT_CODE_BYTES, KEPT_SUBJECT_BYTES, Fact
from streams.flood import BOUNDS, EVENT_FLOOD, MANY_PERSONS, OTHER_SERVICES, Absorbed, Bounds
from streams.linking import TOKEN_DISAGREES_WITH_LINK
from tests.streams.test_bounds import CASE_ID, HOUR, SNAPSHOT_BYTES, STATE_BYTES, event, through

FEW = Bounds(company=6, edge=1, persons=3, weight=12)
KINDS = ("service_initiated", "service_resolved", "document_purchase_request", "other", "ongoing_aml_webhook")
STATUSES = ("success", "temporary_rejection", "permanent_rejection", None, "9")
PLACEMENTS = ("remark_token", "path_token", "learned", "registered")
ANOMALIES = (TOKEN_DISAGREES_WITH_LINK, EVENT_FLOOD)
EMBEDDED_ID_ANOMALY = "link_service_id_mismatch"
WIDE = tuple(chr(0x1F600 + number) * (MAX_NAME_BYTES // 4) for number in range(OTHER_SERVICES))
SERVICES = (*sorted(kyb.SERVICES), *WIDE)

_encode = msgspec.msgpack.Encoder().encode


def size(fact: Fact) -> int:
    """Bytes of a fact in a state, with its key."""
    return len(_encode({fact.event_id: fact})) - 1


LATE = 2**62
LARGEST_OF_COMPANY = Fact(
    event_id=derived_id("a"),
    at=LATE,
    kind="kyb",
    type=max(kyb.TYPES, key=len),
    status=max(kyb.STATUSES, key=len),
    services=SERVICES,
    id_embedded_at=LATE,
    anomalies=(EMBEDDED_ID_ANOMALY,),
)
LARGEST_OF_PERSON = Fact(
    event_id=derived_id("a"),
    at=LATE,
    kind="kyc",
    status="permanent_rejection",
    subject="s" * KEPT_SUBJECT_BYTES,
    kyc_type="t" * KEPT_CODE_BYTES,
    kyc_level="l" * KEPT_CODE_BYTES,
    placement="remark_token",
    anomalies=ANOMALIES,
)


def most_of_company(bounds: Bounds) -> int:
    """How many events of the company are kept: at both edges of each thing that they do to each service, or to none."""
    names = len(SERVICES)
    edge = max(1, bounds.company // 2 // (3 * names + 4))
    at_edges = 2 * edge * (3 * (names + 1) + len(("alert", "expiry")))
    embedded, says = 1, 1
    return max(bounds.company, at_edges + embedded + says)


def test_all_parts_of_a_state_at_their_bounds_are_within_its_size() -> None:
    """As many facts as are kept, each as large as can be, and what is counted: at least twenty kept events for each count."""
    facts = most_of_company(BOUNDS) * size(LARGEST_OF_COMPANY) + BOUNDS.weight * size(LARGEST_OF_PERSON)
    counts = (BOUNDS.weight // (2 * BOUNDS.edge) + 8) * len(_encode(Absorbed(LARGEST_OF_PERSON, LATE)))
    ids, summary = 4 * 512, 4 * 1024
    assert facts + counts + ids + summary < STATE_BYTES


def flood(texts: int) -> list[CaseEvent]:
    """A company with all services, and 100 persons with links, withdrawals and results, with codes of so many bytes."""
    events = []  # one more of the company, and less of it is kept
    for number in range(BOUNDS.company):
        kind, anomalies = KINDS[number % 5], (EMBEDDED_ID_ANOMALY,)
        events.append(event(number, "kyb", type=kind, status="resolved", services=SERVICES, anomalies=anomalies))
    for number in range(BOUNDS.company, 800):
        subject = f"v1.{number % 100:026}"
        text = chr(0x1F600 + number % 50) * (texts // 4)
        match number % 99:
            case 0:
                events.append(event(number, "link", subject=subject, placement="registered", expected_subjects=number))
            case 1:
                moved = tuple(derived_id("moved", str(number), str(index)) for index in range(2))
                events.append(event(number, "withdrawal", subject=subject, moved_events=moved))
            case _:
                placement, status = PLACEMENTS[number % 4], STATUSES[number % 5]
                said: dict[str, Any] = {"status": status, "placement": placement, "anomalies": ANOMALIES[:1]}
                events.append(event(number, "kyc", subject=subject, kyc_type=text, kyc_level=text, **said))
    return events


def test_a_case_that_is_filled_in_every_way_is_within_its_size() -> None:
    """All of it in one case: state and snapshots are within their bytes, and each event counts."""
    state, beside, snapshots = through(flood(MAX_CODE_BYTES))
    assert len(_encode(state)) < STATE_BYTES
    assert max(map(len, beside.values())) < STATE_BYTES
    assert max(len(encode(snapshot)) for snapshot in snapshots) < SNAPSHOT_BYTES
    assert snapshots[-1].version == 800
    assert MANY_PERSONS in snapshots[-1].anomalies


@st.composite
def fillings(draw: st.DrawFn) -> list[CaseEvent]:
    """Several runs of events that fill one or the other part, in any order, with texts of any length."""
    events: list[CaseEvent] = []
    for _ in range(draw(st.integers(1, 6))):
        part = draw(st.sampled_from(["company", "results", "links", "withdrawals"]))
        text = draw(st.sampled_from(["1", "t" * KEPT_CODE_BYTES, "\N{GRINNING FACE}" * 32]))
        prefix = draw(st.sampled_from(["v1.", "v1." + "s" * 400]))
        persons = draw(st.sampled_from([1, 2, 8]))
        for _ in range(draw(st.integers(1, 30))):
            number, at = len(events), draw(st.integers(0, 5)) * HOUR
            subject = f"{prefix}{number % persons}"
            match part:
                case "company":
                    names = draw(st.sets(st.sampled_from(SERVICES))) if draw(st.booleans()) else SERVICES
                    kind = draw(st.sampled_from(KINDS))
                    fields = {"type": kind, "status": "resolved", "services": tuple(names)}
                    events.append(event(number, "kyb", after=at, anomalies=(EMBEDDED_ID_ANOMALY,), **fields))
                case "results":
                    said: dict[str, Any] = {"placement": draw(st.sampled_from(PLACEMENTS[:3]))}
                    said["status"] = draw(st.sampled_from(STATUSES))
                    anomalies = draw(st.sampled_from([(), ANOMALIES, ANOMALIES[:1]]))
                    codes = {"kyc_type": text, "kyc_level": text, "anomalies": anomalies}
                    events.append(event(number, "kyc", after=at, subject=subject, **said, **codes))
                case "links":
                    expected = draw(st.none() | st.integers(0, 2**31))
                    said = {"placement": draw(st.sampled_from(PLACEMENTS)), "expected_subjects": expected}
                    events.append(event(number, "link", after=at, subject=subject, **said))
                case _:
                    moved = tuple(f"moved {number} {index}" for index in range(draw(st.integers(0, 3))))
                    events.append(event(number, "withdrawal", after=at, subject=subject, moved_events=moved))
    return events


@given(events=fillings())
@settings(max_examples=60, deadline=None)
def test_whatever_fills_a_case_its_parts_are_within_their_bounds(events: list[CaseEvent]) -> None:
    """So many facts of the company and of persons, none larger than the largest: then their sum has a bound, too."""
    state, _, snapshots = through(events, FEW)
    persons = [fact for fact in state.facts.values() if fact.subject is not None]
    company = [fact for fact in state.facts.values() if fact.subject is None]
    assert len(company) <= most_of_company(FEW)
    assert all(size(fact) <= size(LARGEST_OF_COMPANY) for fact in company)
    moved = sum(len(fact.moved_events) for fact in persons)
    weights = Counter(fact.subject for fact in persons)
    assert len(weights) == 1 or len(persons) + moved <= FEW.weight
    assert all(size(msgspec.structs.replace(fact, moved_events=())) <= size(LARGEST_OF_PERSON) for fact in persons)
    assert snapshots[-1].version == len(events)
    assert state.case_id == CASE_ID
