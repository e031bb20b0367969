from __future__ import annotations

from pathlib import Path

from kybstream.settings import Settings
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
    assert {agent._table.name: agent._retells for agent in app._batch_agents} == {INTAKE_TABLE: True, CASES_TABLE: False}
