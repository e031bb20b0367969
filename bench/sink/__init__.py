"""Rows a second from a filled topic into ClickHouse, beside plain consumption and an insert row by row."""
