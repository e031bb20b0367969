"""Both providers' webhooks become one case, by each way in which a callback can name it, or stay apart and visible."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest

from sinks.query import Value
from tests.end_to_end.bodies import (
    PERMANENT_REJECTION,
    SUCCESS,
    TEMPORARY_REJECTION,
    case_becomes,
    kyb,
    kyc,
    link,
    new_user,
    no_case,
    send,
    subject_of,
    token_for,
)
from tests.support.stack import RunningStack
from tests.support.waiting import wait_until

pytestmark = pytest.mark.stack


async def test_a_case_token_in_the_path_joins_callback_and_case(stack: RunningStack, case_id: str) -> None:
    """The case is open with KYB alone, matched with the callback, completed when its service is resolved."""
    user = new_user()
    await send(stack, "kyb", kyb(case_id, "service_initiated"))
    await case_becomes(stack, case_id, match_state="kyb_only", kyb_status="pending", kyc_status="none", outcome="open")

    await send(stack, "kyc", kyc(user), case_token=token_for(case_id))
    await case_becomes(stack, case_id, match_state="matched", kyc_status="success", outcome="open", closed_at=None)

    await send(stack, "kyb", kyb(case_id, "service_resolved"))
    row = await case_becomes(stack, case_id, match_state="matched", kyb_status="resolved", outcome="completed")
    assert (row["opened_at_source"], row["placements"], row["anomalies"]) == ("event", ["path_token"], [])
    assert row["version"] == 4  # two of KYB, the link of the token, the callback
    assert row["closed_at"] == row["kyb_resolved_at"]
    subject = {"subject": subject_of(user), "level": "1", "type": "1", "status": "success", "attempts": 1}
    assert row["subjects"] == [subject]


async def test_a_case_token_in_the_remark_joins_a_callback_that_comes_first(stack: RunningStack, case_id: str) -> None:
    """The callback waits on the case that its remark names, not on a provisional one."""
    user = new_user()
    await send(stack, "kyc", kyc(user, remark=f"customer 17, {token_for(case_id)}, director"))
    await case_becomes(stack, case_id, match_state="kyc_only", kyc_status="success", kyb_status="none", outcome="open")

    await send(stack, "kyb", kyb(case_id, "service_resolved"))
    await case_becomes(stack, case_id, match_state="matched", outcome="completed", placements=["remark_token"])
    assert await no_case(stack, f"kyc:{subject_of(user)}")


async def test_a_link_registered_before_the_callback_waits_for_all_subjects(stack: RunningStack, case_id: str) -> None:
    """With two subjects registered the case is completed by the second result only."""
    first, second = new_user(), new_user()
    await asyncio.gather(
        link(stack, case_id, first, "--expected", "2"),
        link(stack, case_id, second, "--expected", "2"),
        send(stack, "kyb", kyb(case_id, "service_resolved")),
    )
    await case_becomes(stack, case_id, expected_subjects=2, kyb_status="resolved", kyc_status="pending", outcome="open")

    await send(stack, "kyc", kyc(first))
    await case_becomes(stack, case_id, match_state="matched", kyc_status="pending", outcome="open", version=4)

    await send(stack, "kyc", kyc(second))
    await case_becomes(stack, case_id, kyc_status="success", outcome="completed", placements=["registered"])


async def test_a_link_registered_after_the_callback_brings_it_to_its_case(stack: RunningStack, case_id: str) -> None:
    """Until then it is a case of its own; afterwards that one is merged, and shown no more."""
    user = new_user()
    provisional = f"kyc:{subject_of(user)}"
    await send(stack, "kyb", kyb(case_id, "service_resolved"))
    await send(stack, "kyc", kyc(user, PERMANENT_REJECTION))
    await case_becomes(stack, provisional, match_state="kyc_only", outcome="rejected", placements=["unlinked"])
    await case_becomes(stack, case_id, match_state="kyb_only", outcome="completed")

    await link(stack, case_id, user)
    await case_becomes(stack, case_id, match_state="matched", kyc_status="permanent_rejection", outcome="rejected")
    await wait_until(lambda: no_case(stack, provisional), 5, "the provisional case is gone")
    history = {row["version"]: (row["outcome"], row["merged_into"]) for row in await stack.rows("cases", case_id=provisional)}
    assert history == {1: ("rejected", None), 2: ("merged", case_id)}


async def test_a_resubmission_without_a_token_goes_where_the_first_attempt_went(stack: RunningStack, case_id: str) -> None:
    """What one callback taught about a subject holds for the next ones."""
    user = new_user()
    await send(stack, "kyb", kyb(case_id, "service_resolved"))
    await send(stack, "kyc", kyc(user, TEMPORARY_REJECTION), case_token=token_for(case_id))
    await case_becomes(stack, case_id, kyc_status="temporary_rejection", outcome="awaiting_resubmission", resubmissions=0)

    await send(stack, "kyc", kyc(user, SUCCESS))
    row = await case_becomes(stack, case_id, kyc_status="success", outcome="completed", resubmissions=1)
    assert row["placements"] == ["learned", "path_token"]


async def test_what_nobody_links_stays_two_cases(stack: RunningStack, case_id: str) -> None:
    """Both halves are shown, each as a case without its other half, and nothing is guessed."""
    user = new_user()
    await send(stack, "kyb", kyb(case_id, "service_initiated"))
    await send(stack, "kyc", kyc(user))
    await case_becomes(stack, case_id, match_state="kyb_only", outcome="open", version=1, subjects=[])
    await case_becomes(stack, f"kyc:{subject_of(user)}", match_state="kyc_only", outcome="open", version=1, services=[])


async def test_tokens_of_two_cases_in_one_callback_are_a_conflict(stack: RunningStack, case_id: str) -> None:
    """The callback stays on a case of its own; neither of the two cases is told of it."""
    user, other = new_user(), f"{case_id}-b"
    await send(stack, "kyb", kyb(case_id, "service_resolved"))
    await send(stack, "kyb", kyb(other, "service_resolved"))
    await send(stack, "kyc", kyc(user, remark=token_for(other)), case_token=token_for(case_id))
    await case_becomes(stack, f"kyc:{subject_of(user)}", match_state="conflict", placements=["conflict"])
    for each in (case_id, other):
        await case_becomes(stack, each, match_state="kyb_only", outcome="completed", version=1, subjects=[])


async def test_links_of_one_subject_to_two_cases_are_ambiguous(stack: RunningStack, case_id: str) -> None:
    """The callback stays on a case of its own, and both cases keep waiting."""
    user, other = new_user(), f"{case_id}-b"
    await asyncio.gather(link(stack, case_id, user), link(stack, other, user))
    await asyncio.gather(*(case_becomes(stack, each, kyc_status="pending", outcome="open") for each in (case_id, other)))
    await send(stack, "kyc", kyc(user))
    await case_becomes(stack, f"kyc:{subject_of(user)}", match_state="ambiguous", placements=["ambiguous"])
    for each in (case_id, other):
        await case_becomes(stack, each, kyc_status="pending", version=1)


async def test_a_token_that_we_did_not_make_joins_nothing(stack: RunningStack, case_id: str) -> None:
    """The callback is taken, stays unlinked, and the token is noted as a violation."""
    user, made = new_user(), token_for(case_id)
    forged = made[:-1] + ("A" if made[-1] != "A" else "B")
    await send(stack, "kyb", kyb(case_id, "service_initiated"))
    delivery_id = await send(stack, "kyc", kyc(user), case_token=forged)
    await case_becomes(stack, f"kyc:{subject_of(user)}", match_state="kyc_only", placements=["unlinked"])
    await case_becomes(stack, case_id, match_state="kyb_only", version=1)
    [row] = await stack.landed("deliveries", delivery_id=delivery_id)
    assert "invalid:case_token" in _list(row["violations"])


async def test_a_case_past_its_deadline_expires_and_comes_back(stack: RunningStack, case_id: str) -> None:
    """Nothing has to arrive for it; what arrives late still counts, with a mark."""
    await send(stack, "hasty-kyb", kyb(case_id, "service_initiated"))
    row = await case_becomes(stack, case_id, tenant="hasty", match_state="kyb_only", outcome="expired", version=2)
    assert _time(row["updated_at"]) == _time(row["deadline_at"]) == _time(row["opened_at"]) + timedelta(seconds=2)

    await send(stack, "hasty-kyb", kyb(case_id, "service_resolved"))
    await case_becomes(stack, case_id, outcome="completed", version=3, anomalies=["closed_after_expiry"])


async def test_case_latency_is_from_opening_to_closing(stack: RunningStack, case_id: str) -> None:
    """Of cases whose receipts are known, mean and quantiles are exactly those of the receipts."""
    service = f"service-{case_id}"
    seconds: list[float] = []
    for number in range(4):
        one = f"{case_id}-{number}"
        ids = [await send(stack, "kyb", kyb(one, kind, service)) for kind in ("service_initiated", "service_resolved")]
        await case_becomes(stack, one, outcome="completed")
        first, last = sorted(_time(row["received_at"]) for row in await stack.landed("deliveries", 2, delivery_id=ids))
        seconds.append((last - first).total_seconds())
    await send(stack, "kyb", kyb(f"{case_id}-open", "service_initiated", service))
    await case_becomes(stack, f"{case_id}-open", outcome="open")

    shown = await stack.rows("case_latency", service=service)
    # The only service of its cases takes as long as they do.
    assert sorted(str(row["part"]) for row in shown) == ["case", "kyb", "service"]
    low, high = sorted(seconds)[1:3]
    for row in shown:
        assert (row["tenant"], row["opened_at_source"], row["cases"]) == ("acme", "event", 4)
        assert row["mean_seconds"] == pytest.approx(sum(seconds) / 4, abs=2e-6)
        assert row["p50_seconds"] == pytest.approx((low + high) / 2, abs=2e-6)
        assert row["p99_seconds"] == pytest.approx(max(seconds) - 0.03 * (max(seconds) - high), abs=2e-6)


def _list(value: Value) -> list[Value]:
    assert isinstance(value, list)
    return value


def _time(value: Value) -> datetime:
    return datetime.fromisoformat(str(value))
