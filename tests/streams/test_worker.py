from __future__ import annotations

from pathlib import Path

import pytest

from kybstream.settings import Settings, WorkerSettings
from streams.worker import CASES_TABLE, INTAKE_TABLE, build_app


async def test_the_intake_remembers_before_it_tells_and_the_cases_do_not(tmp_path: Path) -> None:
    """The intake reads two topics and says the same again for what it knows; the cases are silent about it, and would lose."""
    settings = Settings.model_validate(
        {
            "worker": {"data_dir": str(tmp_path), "store": "memory"},
            "tenants": [{"name": "acme", "pseudonym_key": "k" * 32, "case_token_keys": ["c" * 32]}],
        }
    )
    app, _ = build_app(settings)
    assert {agent._table.name: agent._retells for agent in app._batch_agents.values()} == {
        INTAKE_TABLE: True,
        CASES_TABLE: False,
    }


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
