from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from kybstream.settings import ClickHouseSettings, Settings
from kybstream.settings.components import TableRetentionSettings
from sinks.migrate import migrate
from sinks.query import query
from sinks.retention import retention_statements
from sinks.tables import TABLES, Table
from tests.sinks.making import delivery, land, rows

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
