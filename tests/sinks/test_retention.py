from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from kybstream.settings import ClickHouseSettings, Settings
from kybstream.settings.components import TableRetentionSettings
from sinks.derived import DERIVED
from sinks.migrate import migrate
from sinks.query import query
from sinks.retention import retention_statements
from sinks.tables import TABLES, Table
from tests.sinks.making import case, delivery, event, land, rows

_KEEPS = "SELECT name, engine_full FROM system.tables WHERE database = currentDatabase()"


async def test_rows_are_deleted_when_their_time_is_over(clickhouse_server: str, database_name: str) -> None:
    """A row older than the retention of its table is gone after a merge, a younger one stays; without a setting all stay."""
    settings = ClickHouseSettings(url=clickhouse_server, database=database_name)
    await migrate(settings)
    limited = settings.model_copy(update={"retention_days": TableRetentionSettings(deliveries=30)})
    assert await migrate(limited) == ["retention of deliveries"]
    assert await migrate(limited) == []
    now = datetime.now(UTC)
    await land(
        limited, [delivery(number, received_at=now - timedelta(days=days)) for number, days in enumerate((1, 29, 31, 400))]
    )
    await query(limited, "OPTIMIZE TABLE deliveries FINAL")
    assert await rows(limited, "SELECT delivery_id FROM deliveries ORDER BY 1", final=False) == [
        {"delivery_id": "delivery-000000"},
        {"delivery_id": "delivery-000001"},
    ]
    assert await migrate(settings) == ["retention of deliveries"]  # for ever again
    assert not any("TTL" in str(row["engine_full"]) for row in await rows(settings, _KEEPS, final=False))


async def test_what_is_derived_is_kept_no_longer_than_its_source(clickhouse_server: str, database_name: str) -> None:
    """A row that is over is gone from the tables beside it, too: else what was to be forgotten would go on in the views."""
    settings = ClickHouseSettings(url=clickhouse_server, database=database_name)
    days = TableRetentionSettings(deliveries=30, events=30, cases=30)
    limited = settings.model_copy(update={"retention_days": days})
    await migrate(limited)
    now = datetime.now(UTC)
    for name, age in (("old", 31), ("young", 1)):
        at = now - timedelta(days=age)
        await land(limited, [delivery(age, received_at=at, event_id=name)])
        await land(limited, [event(age, received_at=at, case_id=name)])
        await land(limited, [case(name, updated_at=at, closed_at=at, outcome="completed")])
    for table in ("deliveries", "events", "cases", *(each.name for each in DERIVED)):
        await query(limited, f"OPTIMIZE TABLE {table} FINAL")
        left = await rows(limited, f"SELECT * FROM {table}", final=False)  # noqa: S608 (a name of ours)
        assert len(left) == 1, table
        assert "old" not in map(str, left[0].values())
    assert await migrate(limited) == []
    assert await migrate(settings) == ["retention of deliveries", "retention of events", "retention of cases"]
    assert not any("TTL" in str(row["engine_full"]) for row in await rows(settings, _KEEPS, final=False))


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
async def test_every_table_can_have_a_retention(clickhouse: ClickHouseSettings, table: Table) -> None:
    """Each has a column of the time that its rows are about."""
    name = table.name
    limited = clickhouse.model_copy(update={"retention_days": clickhouse.retention_days.model_copy(update={name: 400})})
    assert await migrate(limited) == [f"retention of {name}"]


def test_somebodys_own_ttl_stays_where_the_settings_say_nothing() -> None:
    """Ours is set, changed and removed; another form is not touched, but replaced where the settings do say something."""
    ours = "ReplacingMergeTree ORDER BY a TTL toDateTime(received_at) + toIntervalDay(3) SETTINGS index_granularity = 8192"
    own = "ReplacingMergeTree ORDER BY a TTL toDateTime(received_at) + toIntervalDay(3) WHERE tenant = 'x' SETTINGS a = 1"
    alter = "ALTER TABLE ${database}.deliveries"
    assert retention_statements({"deliveries": 3}, {"deliveries": ours}) == []
    assert retention_statements({"deliveries": None}, {"deliveries": ours}) == [f"{alter} REMOVE TTL"]
    assert retention_statements({"deliveries": None}, {"deliveries": own}) == []
    changed = [f"{alter} MODIFY TTL toDateTime(received_at) + toIntervalDay(4)"]
    assert retention_statements({"deliveries": 4}, {"deliveries": ours}) == changed
    assert retention_statements({"deliveries": 4}, {"deliveries": own}) == changed


def test_a_table_outlasts_its_topic() -> None:
    """A shorter retention than the topic's would have a restarted sink write again what was deleted."""
    with pytest.raises(ValidationError, match=r"retention_days\.deliveries must not be less than kafka\.retention_hours"):
        Settings.model_validate({"clickhouse": {"retention_days": {"deliveries": 6}}})
    Settings.model_validate({"clickhouse": {"retention_days": {"deliveries": 7, "cases": 1}}})
