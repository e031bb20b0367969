"""What would run on a cluster, as text: there is none to run it on."""

from __future__ import annotations

import re

import pytest

from kybstream.settings import ClickHouseSettings
from sinks.cluster import Place
from sinks.migrate import _RECORD_TABLE, _statements, migrations, views

ALONE = Place.of(ClickHouseSettings())
TOGETHER = Place.of(ClickHouseSettings(cluster="main"))
ALL = [
    *(statement for migration in migrations() for statement in _statements(migration.sql)),
    *(statement for _, sql in views() for statement in _statements(sql)),
    _RECORD_TABLE,
    "CREATE DATABASE IF NOT EXISTS ${database}",
    "DROP TABLE IF EXISTS ${database}.deliveries__rebuild SYNC",
    "CREATE TABLE ${database}.deliveries__rebuild AS ${database}.deliveries",
    "EXCHANGE TABLES ${database}.deliveries AND ${database}.deliveries__rebuild",
    "ALTER TABLE ${database}.deliveries MODIFY TTL toDateTime(received_at) + toIntervalDay(3)",
]


# An insert goes to one replica, and on from there; so does a merge.
@pytest.mark.parametrize(
    "sql",
    [sql for sql in ALL if not sql.startswith(("INSERT", "OPTIMIZE"))],
    ids=lambda sql: re.sub(r"\s+", " ", sql).strip()[:60],
)
def test_every_statement_of_ours_is_one_for_a_cluster(sql: str) -> None:
    """Each gets ON CLUSTER once, right behind what it names, and no table is left that is not replicated."""
    made = TOGETHER.statement(sql)
    assert made.count("ON CLUSTER 'main'") == 1
    assert re.search(r"(?:kyb(?:\.\w+)?) ON CLUSTER 'main'", made)
    assert not re.search(r"ENGINE\s*=\s*(?!Replicated)\w*MergeTree", made)
    assert "non_replicated_deduplication_window" not in made
    assert "${" not in made


@pytest.mark.parametrize("sql", ALL, ids=lambda sql: re.sub(r"\s+", " ", sql).strip()[:60])
def test_without_a_cluster_only_the_database_is_put_in(sql: str) -> None:
    """What runs on one server is what stands in the file."""
    assert ALONE.statement(sql) == sql.replace("${database}", "kyb")


def test_a_table_is_replicated_under_the_path_of_the_settings() -> None:
    """Path and replica with ClickHouse's macros, the engine's own arguments behind them, tokens known to all replicas."""
    place = Place("kyb", "main", "/tables/{uuid}", "{replica}")
    engine = "ENGINE = ReplacingMergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 9"
    sql = f"CREATE TABLE ${{database}}.t (a Int8) {engine}"
    assert place.statement(sql) == (
        "CREATE TABLE kyb.t ON CLUSTER 'main' (a Int8) ENGINE = ReplicatedReplacingMergeTree('/tables/{uuid}', '{replica}') "
        "ORDER BY a SETTINGS replicated_deduplication_window = 9"
    )
    versioned = place.statement("CREATE TABLE t (a Int8) ENGINE = ReplacingMergeTree(a) ORDER BY a")
    assert "ReplicatedReplacingMergeTree('/tables/{uuid}', '{replica}', a)" in versioned


def test_queries_and_inserts_stay_as_they_are() -> None:
    """They go to one replica."""
    sql = "SELECT * FROM ${database}.cases WHERE outcome = 'ENGINE = MergeTree'"
    assert TOGETHER.statement(sql) == sql.replace("${database}", "kyb")
