"""What state costs: bytes, a turn of the expiry timer, and seconds until a worker is ready. `make bench-state` runs it."""
