"""A ClickHouse-compatible server in one process: ClickHouse's HTTP interface in front of chDB.

Start at `server.serve`. The engine (`chdb-core`) is imported only by `engine`, when it is opened, so that everything else can
be imported without it. May import `kybstream.errors` and, of `deploy.embedded`, the locks and ports; `child`,
which starts it as a process, its supervisor, too.
"""
