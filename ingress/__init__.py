"""HTTP in: webhooks are read, authenticated, and acknowledged once Kafka has them; see `server.serve`.

May import `kybstream` (but not `kybstream.cli`) and `schemas`; never `streams` or `sinks`.
"""
