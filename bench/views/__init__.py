"""How fast the views answer at ten million events, on the embedded ClickHouse-compatible server."""
