"""An outage is a handful of lines, whoever logs them, and nothing else is held back."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from contextlib import redirect_stderr

import pytest
import structlog

from kybstream.outages import BRIEF_SECONDS, EVERY_SECONDS, QUIET_SECONDS, Outage, telling_outages
from kybstream.telemetry import configure_logging
from tests.support.waiting import wait_until


class TestOutage:
    """`Outage`, which is pure."""

    def test_it_is_told_when_it_begins_each_minute_and_when_it_ends(self) -> None:
        """Ten lines a second for three minutes come to a line each minute; the line it begins with is its first as it came."""
        outage = Outage()
        told: list[tuple[int, str]] = []
        held = 0
        for tenth in range(1_800):
            now = 100 + tenth / 10
            hold, entry = outage.symptom(now, f"kind {tenth % 20}", "connection refused")
            held += hold
            told += [(round(now), each.event) for each in (entry, outage.turn(now)) if each is not None]
            assert not outage.quiet(now)
        assert told == [
            (101, "outage_began"),
            (161, "outage_goes_on"),
            (221, "outage_goes_on"),
        ]
        over = 280 + QUIET_SECONDS
        assert held == 1_799
        assert outage.quiet(over)
        ended = outage.end(over)
        assert ended is not None
        assert (ended.event, ended.fields["lines_held_back"]) == ("outage_ended", 1_799)
        assert len(ended.fields["kinds"]) == 5  # type: ignore[arg-type]
        assert not outage.quiet(over)
        assert outage.end(over) is None

    def test_trouble_that_is_brief_is_one_line(self) -> None:
        """The first line is written; nothing is said of its end."""
        outage = Outage()
        assert outage.symptom(0.0, "k", "t") == (False, None)
        assert outage.symptom(BRIEF_SECONDS / 2, "k", "t") == (True, None)
        assert outage.turn(EVERY_SECONDS * 2) is None
        assert outage.quiet(BRIEF_SECONDS / 2 + QUIET_SECONDS)
        assert outage.end(10.0) is None

    def test_what_is_no_trouble_by_itself_is_part_of_an_outage_only(self) -> None:
        """Before one and after it such lines are written."""
        outage = Outage()
        assert outage.symptom(0.0, "k", "t", begins=False) == (False, None)
        outage.symptom(1.0, "k", "t")
        assert outage.symptom(1.1, "k", "t", begins=False) == (True, None)
        outage.end(9.0)
        assert outage.symptom(9.1, "k", "t", begins=False) == (False, None)


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """The log of a component as its process writes it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    try:
        with redirect_stderr(stream):
            configure_logging(console=False)
        yield stream
    finally:
        root.handlers[:], root.level = handlers, level
        structlog.reset_defaults()


async def test_lines_of_the_library_and_ours_are_held_back_until_the_service_answers(written: io.StringIO) -> None:
    """Of both, after the first; bugs, rebalances and other events are written, and all of it again when the block is over."""
    library, ours = logging.getLogger("aiokafka.test"), structlog.stdlib.get_logger("ours")
    back = asyncio.Event()

    async def answers() -> bool:
        return back.is_set()

    def events() -> list[str]:
        return [json.loads(line)["event"] for line in written.getvalue().splitlines()]

    async with telling_outages("kafka", answers, begins=("aiokafka",), belongs=("mode",)):
        library.warning("Heartbeat failed for group because it is rebalancing")
        library.error("cannot connect to %s", "node 1")

        def outage() -> bool:
            library.error("cannot connect to %s", "node 1")
            ours.warning("tried_again", outage="kafka")
            logging.getLogger("mode.timers").error("late")
            return "outage_began" in events()

        await wait_until(outage, BRIEF_SECONDS + 5, "the outage is told")
        try:
            raise KeyError("a bug")  # noqa: TRY301 - as a library meets it
        except KeyError:
            library.exception("unexpected")
        ours.warning("something_else")
        back.set()
        await wait_until(lambda: "outage_ended" in events(), QUIET_SECONDS + 5, "its end is told")
    library.error("cannot connect to %s", "node 2")
    library.error("cannot connect to %s", "node 2")
    assert events() == [
        "Heartbeat failed for group because it is rebalancing",
        "cannot connect to node 1",
        "outage_began",
        "unexpected",
        "something_else",
        "outage_ended",
        "cannot connect to node 2",
        "cannot connect to node 2",
    ]
