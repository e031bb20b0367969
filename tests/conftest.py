"""Makes the fixtures of `tests.support` known to every test."""

pytest_plugins = ["tests.support.brokers", "tests.support.clickhouse", "tests.support.stack"]
