from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from ingress.rejections import RejectionCounts
from schemas.records import Rejection
from schemas.topics import REJECTIONS
from tests.ingress.harness import KYB_TOKEN, decoded, make_topics, running, settings_for, source

NOON = datetime(2026, 1, 2, 12, 0, 30, 5, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def counts(*, ingress: str = "here", max_counts: int = 100) -> RejectionCounts:
    """Counts of an ingress with one source."""
    return RejectionCounts(ingress, {"kyb": "acme"}, max_counts=max_counts)


@given(st.lists(st.tuples(st.sampled_from(["kyb", "x", "y"]), st.sampled_from(["peer", "busy"]), st.integers(0, 3))))
def test_every_request_is_counted_once(events: list[tuple[str, str, int]]) -> None:
    """However they come, the counts of all minutes add up, and sources that are not configured count as `unknown`."""
    ours = counts()
    for name, reason, minutes in events:
        ours.count(name, reason, NOON + minutes * MINUTE)
    records = ours.all()
    assert sum(record.count for record in records) == len(events)
    assert {record.source for record in records} <= {"kyb", "unknown"}
    assert len({record.rejection_id for record in records}) == len(records)


def test_a_minute_is_handed_out_when_it_is_over_and_until_it_is_settled() -> None:
    """The running minute waits; a minute that Kafka did not take comes again under the same id."""
    ours = counts()
    ours.count("kyb", "peer", NOON)
    assert ours.due(NOON + timedelta(seconds=29)) == []
    (first,) = ours.due(NOON + MINUTE)
    assert (first.minute, first.count, first.tenant) == (NOON.replace(second=0, microsecond=0), 1, "acme")
    assert ours.due(NOON + 2 * MINUTE) == [first]
    ours.settle(first)
    assert ours.due(NOON + 2 * MINUTE) == []


def test_ids_differ_between_starts_and_not_between_sends() -> None:
    """A restarted process counts the same minute under another id, so that neither count is dropped as a duplicate."""
    ids = set()
    for name in ("first start", "second start", "first start"):
        ours = counts(ingress=name)
        ours.count("kyb", "peer", NOON)
        ids.add(ours.all()[0].rejection_id)
    assert len(ids) == 2


def test_the_counts_are_bounded() -> None:
    """With Kafka away for long, new keys are dropped, and those that are there still grow."""
    ours = counts(max_counts=2)
    for minutes in range(5):
        ours.count("kyb", "peer", NOON + minutes * MINUTE)
    ours.count("kyb", "peer", NOON)
    assert [record.count for record in ours.all()] == [2, 1]


async def test_what_was_turned_away_is_in_the_topic_after_the_stop(noida_broker: str, topic_prefix: str) -> None:
    """Each reason becomes one record with its count; 200s become none."""
    signature = {"scheme": "hmac", "secrets": ["s" * 16], "header": "X-Sig"}
    sources = [
        source(),
        source("signed", signature=signature),
        source("far", allow=["10.0.0.0/8"]),
        source("small", max_body_bytes=1),
    ]
    settings = settings_for(noida_broker, topic_prefix, sources)
    await make_topics(settings.kafka)
    async with running(settings) as ingress:
        for path in ("kyb", "kyb/x", "kyb/x", "one", "two", f"far/{KYB_TOKEN}", f"small/{KYB_TOKEN}", f"signed/{KYB_TOKEN}"):
            await ingress.post(f"/webhooks/{path if '/' in path else path + '/' + KYB_TOKEN}")
        await ingress.request("GET", f"/webhooks/kyb/{KYB_TOKEN}")
        assert await ingress.metric("kyb_ingress_requests_total", source="kyb", outcome="accepted") == 1
        assert await ingress.metric("kyb_ingress_requests_total", source="unknown", outcome="unknown_source") == 2
        assert await ingress.metric("kyb_ingress_signature_failures_total", source="signed", reason="missing_header") == 1
        assert await ingress.metric("kyb_ingress_request_seconds_count", source="kyb") == 3
        assert await ingress.metric("kyb_ingress_kafka_ack_seconds_count") == 1
    records = cast("list[Rejection]", await decoded(settings, REJECTIONS, Rejection))
    found: dict[tuple[str, str], int] = {}
    for record in records:
        found[record.source, record.reason] = found.get((record.source, record.reason), 0) + record.count
        assert record.tenant == (None if record.source == "unknown" else "acme")
    assert found == {
        ("kyb", "wrong_token"): 2,
        ("kyb", "method_not_allowed"): 1,
        ("unknown", "unknown_source"): 2,
        ("far", "peer"): 1,
        ("small", "too_large"): 1,
        ("signed", "signature_missing_header"): 1,
    }
