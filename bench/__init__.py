"""Benchmarks: each a ratio to a limit or a peer measured in the same run. Run them with `make bench-…`."""
