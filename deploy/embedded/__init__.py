"""The embedded stack: a Kafka-compatible broker, a ClickHouse-compatible server, and what starts and stops processes.

Every server here is an ordinary process that speaks Kafka's protocol or ClickHouse's HTTP interface, so that no component
can tell it from the real one. May import `kybstream` (but not its command line), and none of the other folders.
"""
