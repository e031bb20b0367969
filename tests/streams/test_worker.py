from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import cast

import msgspec
import pytest
import structlog

from kybstream.settings import Settings, WorkerSettings
from schemas.codec import decode, encode
from schemas.records import CaseEvent
from schemas.topics import case_key
from streams.batching import BatchApp, BatchTable, Output
from streams.processing import CasesProcess
from streams.worker import CASES_TABLE, INTAKE_TABLE, _expire_once, build_app
from tests.streams.pipeline import NAMES, POLICIES, START, DictState, as_record


async def test_the_intake_remembers_before_it_tells_and_the_cases_do_not(tmp_path: Path) -> None:
    """The intake reads two topics and says the same again for what it knows; the cases are silent about it, and would lose."""
    settings = Settings.model_validate(
        {
            "worker": {"data_dir": str(tmp_path), "store": "memory"},
            "tenants": [{"name": "acme", "pseudonym_key": "k" * 32, "case_token_keys": ["c" * 32]}],
        }
    )
    app, _ = build_app(settings)
    assert {agent._table.name: agent._retells for agent in app._batch_agents} == {INTAKE_TABLE: True, CASES_TABLE: False}


def test_a_restart_keeps_its_partitions_as_long_as_the_settings_say(tmp_path: Path) -> None:
    """What is said of `worker.instance` is the session timeout."""
    app, _ = build_app(Settings.model_validate({"worker": {"data_dir": str(tmp_path), "store": "memory"}}))
    assert f"within {app.conf.broker_session_timeout:g} s" in (WorkerSettings.model_fields["instance"].description or "")


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"commit_interval_seconds": 40}, "at least twice commit_interval_seconds"),
        ({"stalled_after_seconds": 301}, "give_up_after_seconds must not be less"),
    ],
)
def test_a_stall_is_longer_than_what_is_normal(given: dict[str, float], complaint: str) -> None:
    """Else a healthy worker would end itself again and again."""
    with pytest.raises(ValueError, match=complaint):
        WorkerSettings.model_validate(given)


class Table:
    """What the timer sees of the table of cases."""

    def __init__(self, values: dict[bytes, bytes]) -> None:
        self.values = values

    def owned_partitions(self) -> frozenset[int]:
        """One."""
        return frozenset({0})

    def scan(self, _partition: int) -> Iterator[tuple[bytes, bytes]]:
        """All."""
        return iter(self.values.items())


class Publisher:
    """What the timer sends."""

    def __init__(self) -> None:
        self.sent: list[Output] = []

    async def publish(self, outputs: list[Output]) -> None:
        """Keeps them."""
        self.sent += outputs


async def test_a_state_that_cannot_be_read_keeps_no_other_case_from_expiring() -> None:
    """The timer goes on behind it, and says how many there are."""
    names = ("one", "two")
    events = [CaseEvent(event_id="e", tenant="acme", case_id=name, received_at=START, kind="kyb") for name in names]
    records = [as_record(NAMES.case_events, case_key("acme", each.case_id), encode(each)) for each in events]
    state = DictState()
    state.write(CasesProcess(POLICIES, NAMES)(0, records, state).writes)
    damaged = case_key("acme", "one").encode()
    table = Table(
        {damaged: msgspec.msgpack.encode("of another version"), **{k: v for k, v in state.values.items() if k != damaged}}
    )
    app = Publisher()
    with structlog.testing.capture_logs() as logged:
        later = START + timedelta(days=365)
        await _expire_once(cast("BatchApp", app), cast("BatchTable", table), NAMES.case_events, later)
    assert [decode(output.value or b"", CaseEvent).case_id for output in app.sent] == ["two"]
    assert [(entry["event"], entry["cases"]) for entry in logged] == [("cases_expired", 1), ("unreadable_states", 1)]
