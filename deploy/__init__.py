"""How it runs: `embedded` on one machine without containers, `docker` in containers.

May import `schemas` and `kybstream`; never `ingress`, `streams` or `sinks`, which it starts as processes.
"""
