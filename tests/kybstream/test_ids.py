from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from kybstream.errors import (
    BadRecordError,
    ConfigurationError,
    KybStreamError,
    RunError,
    UnavailableError,
    UsageError,
)
from kybstream.ids import derived_id, from_micros, new_delivery_id, to_micros


def test_delivery_ids_are_uuid7_distinct_and_in_order_of_time() -> None:
    """Lower-case text of version 7, so that deliveries sort by when they were drawn, to the millisecond."""
    before = int(datetime.now(UTC).timestamp() * 1000)
    ids = [new_delivery_id() for _ in range(1000)]
    after = int(datetime.now(UTC).timestamp() * 1000)
    assert len(set(ids)) == 1000
    for text in ids:
        assert (uuid.UUID(text).version, uuid.UUID(text).variant, text) == (7, uuid.RFC_4122, text.lower())
    milliseconds = [uuid.UUID(text).int >> 80 for text in ids]
    assert milliseconds == sorted(milliseconds)
    assert before <= milliseconds[0] <= milliseconds[-1] <= after


def test_derived_ids_are_pinned() -> None:
    """The same parts have given this id since the first version: records in topics and tables are named by it."""
    assert derived_id("event", "acme", "1") == "dd6f896e-eb73-8bd4-8d60-92d8dbaa8b15"


@given(st.lists(st.text(max_size=5), max_size=4), st.lists(st.text(max_size=5), max_size=4))
def test_derived_ids_differ_whenever_the_parts_do(one: list[str], other: list[str]) -> None:
    """Parts are counted with their lengths: ("ab", "c") is not ("a", "bc"). Version 8, custom content."""
    assert (derived_id(*one) == derived_id(*other)) == (one == other)
    assert uuid.UUID(derived_id(*one)).version == 8


def test_derived_ids_take_any_text() -> None:
    """Half a surrogate is no reason to fail."""
    assert derived_id("\ud800") != derived_id("\ud801")


@given(st.datetimes(datetime(1900, 1, 1), datetime(2300, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 (bounds are naive)
def test_microseconds_and_times_are_one_to_one(moment: datetime) -> None:
    """Exactly, before the epoch too."""
    assert from_micros(to_micros(moment)) == moment


def test_microseconds_do_not_depend_on_the_time_zone() -> None:
    """The same instant elsewhere has the same number."""
    moment = datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert to_micros(moment) == to_micros(moment.astimezone(timezone(timedelta(hours=5)))) == 1_772_366_400_000_000


def test_errors_say_by_class_what_a_caller_may_do() -> None:
    """Exit 2 for usage and configuration, 1 for a failed run; only what can heal by itself is retriable."""
    kinds = {ConfigurationError: (2, False), UsageError: (2, False), RunError: (1, False), UnavailableError: (1, True)}
    for kind, expected in {**kinds, BadRecordError: (1, False)}.items():
        error: KybStreamError = kind("what", hint="do this")
        assert (error.exit_code, error.retriable) == expected
        assert (str(error), error.message, error.hint) == ("what", "what", "do this")
