from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from kybstream.simulator import Plan
from kybstream.simulator.resending import LONGEST_FLOOR_SECONDS, SHORTEST_GAP_SECONDS, Resending
from kybstream.simulator.retries import GIVE_UP_SECONDS, KYC_ATTEMPTS


def test_a_callback_without_a_200_is_delivered_118_times_in_48_hours() -> None:
    """Every 10 s within 10 minutes, every 5 minutes within an hour, every hour within 48 hours."""
    gaps = Counter(later - sooner for sooner, later in pairwise(KYC_ATTEMPTS))
    assert gaps == {10: 60, 300: 10, 3600: 47}
    assert len(KYC_ATTEMPTS) == 118
    assert KYC_ATTEMPTS[60] == 600
    assert KYC_ATTEMPTS[70] == 3600
    assert KYC_ATTEMPTS[-1] == GIVE_UP_SECONDS == 172_800


def test_planned_repeats_follow_the_schedule_at_the_scale(default_plan: Plan) -> None:
    """One second stands for a day: the n-th copy comes at the documented offset divided by 86,400."""
    series = Counter(step.label for step in default_plan.deliveries if step.source_kind == "kyc-registration" and step.join)
    label, copies = series.most_common(1)[0]
    assert copies == 118
    times = [step.at for step in default_plan.deliveries if step.label == label]
    assert [at - times[0] for at in times] == pytest.approx([seconds / 86_400 for seconds in KYC_ATTEMPTS], abs=1e-9)


def test_a_refused_delivery_is_sent_again_on_the_schedule_in_real_time() -> None:
    """At the scale of real time the gaps after a refusal are the documented ones, and 48 hours the end."""
    resending = Resending(scale_seconds_per_day=86_400, patience_seconds=30)
    gaps = [resending.gap("kyc-registration", attempt) for attempt in range(1, 118)]
    assert gaps == pytest.approx([later - sooner for sooner, later in pairwise(KYC_ATTEMPTS)])
    assert resending.give_up_after == pytest.approx(172_800)


def test_a_compressed_schedule_is_no_flood_and_no_early_end() -> None:
    """However short a day is played, gaps grow from 50 ms to 0.5 s, and patience outlasts the provider's 48 hours."""
    resending = Resending(scale_seconds_per_day=0.001, patience_seconds=30)
    gaps = [resending.gap("kyb-service", attempt) for attempt in range(1, 8)]
    assert gaps == sorted(gaps)
    assert (gaps[0], gaps[-1]) == (SHORTEST_GAP_SECONDS, LONGEST_FLOOR_SECONDS)
    assert resending.give_up_after == 30
