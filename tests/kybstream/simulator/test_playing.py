from __future__ import annotations

import math
import socket
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from kybstream.errors import RunError, UnavailableError, UsageError
from kybstream.simulator import Plan, PlannedDelivery, PlannedLink, Progress, SimulationConfig, Target, plan, play

if TYPE_CHECKING:
    from tests.kybstream.simulator.conftest import Receiver

DROP = 0
"""Tells the receiver to take a request and break the connection (see conftest)."""


def _lanes(steps: list[tuple[str, bytes]], a_plan: Plan, target: Target) -> dict[str, list[tuple[str, bytes]]]:
    lane_of = {(_path(target, step), step.body): step.case for step in a_plan.deliveries}
    lanes: dict[str, list[tuple[str, bytes]]] = defaultdict(list)
    for step in steps:
        lanes[lane_of[step]].append(step)
    return lanes


def _path(target: Target, step: PlannedDelivery) -> str:
    return "/" + target.url(step).split("/", 3)[3]


async def test_everything_planned_arrives_and_is_recorded(receiver: Receiver, small_plan: Plan) -> None:
    """Each planned delivery is sent once to its address and comes back with the id it was given."""
    target = receiver.target()
    sent = await play(small_plan, target, rate=math.inf)
    assert sorted(receiver.taken) == sorted((_path(target, step), step.body) for step in small_plan.deliveries)
    assert {one.delivery_id for one in sent} == {f"delivery-{number + 1}" for number in range(len(small_plan.deliveries))}
    assert all(one.accepted and one.attempt == 1 for one in sent)


async def test_a_refused_delivery_is_sent_again_until_a_200_and_in_order(receiver: Receiver, small_plan: Plan) -> None:
    """A receiver that answers 503 first, then 204, gets it a third time; and the order within each case holds."""
    receiver.answer = lambda before: (503, 204)[before] if before < 2 else 200
    target = receiver.target()
    sent = await play(small_plan, target, rate=math.inf, concurrency=8)
    accepted = [one for one in sent if one.accepted]
    assert len(accepted) == len(small_plan.deliveries)
    assert {one.status for one in sent} == {503, 204, 200}
    assert max(one.attempt for one in sent) == 3
    planned = [(_path(target, step), step.body) for step in small_plan.deliveries]
    assert _lanes(receiver.taken, small_plan, target) == _lanes(planned, small_plan, target)


async def test_the_planned_times_are_kept(receiver: Receiver, small_plan: Plan) -> None:
    """Without a rate nothing is sent before its time, and the last not long after it."""
    sent = await play(small_plan, receiver.target())
    assert all(one.sent_at >= one.planned.at - 0.005 for one in sent)
    assert max(one.sent_at for one in sent) < small_plan.seconds + 2


async def test_a_rate_bounds_the_speed(receiver: Receiver, small_plan: Plan) -> None:
    """At 200 steps a second the n-th step is not sent before n / 200 seconds."""
    sent = await play(small_plan, receiver.target(), rate=200)
    times = sorted(one.sent_at for one in sent)
    assert all(at >= index / 200 - 0.005 for index, at in enumerate(times))


async def test_a_delivery_that_is_always_refused_is_given_up(receiver: Receiver, small_plan: Plan) -> None:
    """The provider stops after its 48 hours (here: after the patience), and the next of the case gets its turn."""
    receiver.answer = lambda _before: 503
    few = replace(small_plan, deliveries=small_plan.deliveries[:5])
    sent = await play(few, receiver.target(), rate=math.inf, patience_seconds=0.3)
    assert not any(one.accepted for one in sent)
    assert {one.planned.label for one in sent} == {step.label for step in few.deliveries}
    assert max(one.attempt for one in sent) >= 2


async def test_progress_is_told_after_each_step(receiver: Receiver, small_plan: Plan) -> None:
    """It ends at the total, and counts the refused attempts."""
    receiver.answer = lambda before: 200 if before else 503
    told: list[Progress] = []
    await play(small_plan, receiver.target(), rate=math.inf, progress=told.append)
    total = len(small_plan.deliveries)
    assert [one.done for one in told] == list(range(1, total + 1))
    assert told[-1].total == total
    assert told[-1].attempts == told[-1].refused + total
    assert told[-1].refused > 0


async def test_deliveries_are_signed_anew_for_each_attempt(receiver: Receiver, small_plan: Plan) -> None:
    """The signer sees the delivery and the path, and its headers are sent beside the planned ones."""
    calls: list[str] = []

    def sign(delivery: PlannedDelivery, path: str) -> dict[str, str]:
        calls.append(path)
        return {"X-Signature": f"{delivery.label} {path} {len(calls)}"}

    receiver.answer = lambda before: 200 if before else 503
    target = replace(receiver.target(), sign=sign)
    await play(small_plan, target, rate=math.inf)
    assert len(calls) == len(receiver.requests)
    assert len({headers["X-Signature"] for headers in receiver.headers}) == len(calls)
    assert sorted(calls) == sorted(path for path, _ in receiver.requests)
    assert {headers["Content-Type"] for headers in receiver.headers} == {
        "application/json",
        "application/json;charset=UTF-8",
    }


async def test_links_are_registered_in_their_turn(receiver: Receiver, config: SimulationConfig) -> None:
    """A link planned after a callback is registered after the receiver has taken it, one planned before it before."""
    a_plan = plan(replace(config, cases=60, scale_seconds_per_day=0.01))
    target = receiver.target()
    taken_before: dict[PlannedLink, set[tuple[str, bytes]]] = {}

    async def register(link: PlannedLink) -> None:
        taken_before[link] = set(receiver.taken)

    await play(a_plan, replace(target, register_link=register), rate=math.inf)
    assert set(taken_before) == set(a_plan.links)
    for link, taken in taken_before.items():
        for step in a_plan.deliveries:
            if step.case == link.case and step.verdict == "new":
                assert ((_path(target, step), step.body) in taken) == (step.at < link.at)


async def test_links_need_somebody_who_registers_them(receiver: Receiver, default_plan: Plan) -> None:
    """Without a registrar the expectations could not come true: that is said before anything is sent."""
    with pytest.raises(UsageError, match="links"):
        await play(default_plan, receiver.target())
    assert not receiver.requests


async def test_a_receiver_that_is_not_there_is_a_clear_error(small_plan: Plan) -> None:
    """After some tries, naming the address without its tokens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    base = f"http://127.0.0.1:{port}/webhooks"
    target = Target(kyb_url=f"{base}/kyb/secret-kyb-token", kyc_url=f"{base}/kyc/secret-kyc-token")
    with pytest.raises(UnavailableError, match=f"127.0.0.1:{port}") as caught:
        await play(small_plan, target, rate=math.inf, patience_seconds=0.3)
    assert "secret" not in str(caught.value)


async def test_a_wrong_token_is_a_clear_error(receiver: Receiver, small_plan: Plan) -> None:
    """A receiver that knows none of our addresses is not asked two thousand times."""
    receiver.answer = lambda _before: 404
    with pytest.raises(RunError, match="does not know the address") as caught:
        await play(small_plan, receiver.target(), rate=math.inf, concurrency=4)
    assert "secret" not in str(caught.value)
    assert len(receiver.requests) < 50


async def test_a_lost_answer_makes_a_duplicate(receiver: Receiver, small_plan: Plan) -> None:
    """The receiver takes a request and the connection breaks: the sender cannot know, and sends it again."""
    receiver.answer = lambda before: DROP if before == 0 and len(receiver.requests) % 3 == 0 else 200
    target = receiver.target()
    sent = await play(small_plan, target, rate=math.inf)
    assert len([one for one in sent if one.accepted]) == len(small_plan.deliveries)
    lost = [one for one in sent if one.status is None]
    assert lost
    assert {one.error for one in lost} <= {"ServerDisconnectedError", "ClientOSError"}
    assert len(receiver.taken) == len(small_plan.deliveries) + len(lost)


def test_addresses_are_checked_and_not_shown() -> None:
    """Only http(s) URLs; their tokens are in no `repr` and in no error."""
    with pytest.raises(UsageError) as caught:
        Target(kyb_url="ftp://host/secret-kyb-token", kyc_url="http://host/secret-kyc-token")
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(Target(kyb_url="http://host/secret-kyb-token", kyc_url="http://host/secret-kyc-token"))
