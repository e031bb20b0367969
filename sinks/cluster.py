"""The statements of the schema as one server runs them, and as a cluster of replicas does. Pure.

Migrations are written for one server. For a cluster each statement gets `ON CLUSTER`, and each table is replicated. What a
migration is remains its file: its checksum does not depend on where it is applied.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kybstream.settings import ClickHouseSettings

_DATABASE = "${database}"
_NAME = r"(?:IF\s+(?:NOT\s+)?EXISTS\s+)?\S+"
_HEADS = (
    re.compile(rf"\A(\s*CREATE\s+DATABASE\s+{_NAME})", re.IGNORECASE),
    re.compile(rf"\A(\s*CREATE\s+TABLE\s+{_NAME})", re.IGNORECASE),
    re.compile(rf"\A(\s*CREATE\s+(?:OR\s+REPLACE\s+)?(?:MATERIALIZED\s+)?VIEW\s+{_NAME})", re.IGNORECASE),
    re.compile(rf"\A(\s*ALTER\s+TABLE\s+{_NAME})", re.IGNORECASE),
    re.compile(rf"\A(\s*DROP\s+(?:TABLE|VIEW|DICTIONARY)\s+{_NAME})", re.IGNORECASE),
)
_EXCHANGE = re.compile(r"\A(\s*EXCHANGE\s+TABLES\s+\S+\s+AND\s+\S+)", re.IGNORECASE)
_ENGINE = re.compile(r"\bENGINE\s*=\s*(?!Replicated)(\w*MergeTree)\b(\s*\(([^)]*)\))?")
_WINDOW = re.compile(r"\bnon_replicated_deduplication_window\b")


@dataclass(frozen=True)
class Place:
    """Where statements are run.

    Attributes:
        database: Its name, for `${database}`.
        cluster: ClickHouse's name of the cluster; None for one server.
        replica_path: Of replicated tables in Keeper.
        replica_name: Of each replica.
    """

    database: str
    cluster: str | None = None
    replica_path: str = ""
    replica_name: str = ""

    @classmethod
    def of(cls, clickhouse: ClickHouseSettings) -> Place:
        """The place that the settings name."""
        return cls(clickhouse.database, clickhouse.cluster, clickhouse.replica_path, clickhouse.replica_name)

    def statement(self, sql: str) -> str:
        """The statement as it is run there.

        - `${database}` is the database;
        - of a cluster, what makes or changes a table, view or database gets `ON CLUSTER`;
        - of a cluster, `…MergeTree` becomes `Replicated…MergeTree`, and the window in which tokens are known is that of
          replicated tables.

        Statements that neither make nor change anything stay as they are.
        """
        if self.cluster is not None:
            on_cluster = rf"\1 ON CLUSTER '{self.cluster}'"
            for head in (*_HEADS, _EXCHANGE):
                sql, changed = head.subn(on_cluster, sql, count=1)
                if changed:
                    sql = _WINDOW.sub("replicated_deduplication_window", _ENGINE.sub(self._replicated, sql))
                    break
        return sql.replace(_DATABASE, self.database)

    def _replicated(self, engine: re.Match[str]) -> str:
        own = f", {engine[3].strip()}" if engine[3] and engine[3].strip() else ""
        return f"ENGINE = Replicated{engine[1]}('{self.replica_path}', '{self.replica_name}'{own})"
