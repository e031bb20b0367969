"""Makes the fixtures of `tests.support` known to every test, and says which tests need a server."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

pytest_plugins = ["tests.support.brokers", "tests.support.clickhouse", "tests.support.cluster", "tests.support.stack"]


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Marks the tests that ask for the embedded ClickHouse: what they show of SQL is the same on every Python."""
    for item in items:
        if "clickhouse_server" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.clickhouse)
