"""What lands: the topics' records written to ClickHouse exactly once, the tables and views there, and queries over them.

May import `kybstream` and `schemas`, and none of the application's other folders. `migrations/` holds the tables, `views/` the
analytics. Decisions are in `framing`, `batch`, `interval` and `resume` (pure); `consumer` and `writer` move bytes.
"""
