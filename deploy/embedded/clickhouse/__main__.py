"""`python -P -m deploy.embedded.clickhouse --data-dir D --port P`: the server alone. Prints its URL on the first line."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

import structlog

from deploy.embedded.clickhouse.server import serve
from kybstream.errors import KybStreamError


def main() -> int:
    """Serve until a signal; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -P -m deploy.embedded.clickhouse")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--port", type=int, default=8123)
    arguments = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # stdout is for the URL

    def announce(port: int) -> None:
        sys.stdout.write(f"http://127.0.0.1:{port}\n")
        sys.stdout.flush()

    try:
        asyncio.run(serve(data_dir=arguments.data_dir, port=arguments.port, ready=announce))
    except KybStreamError as error:
        sys.stderr.write(f"{error.message}{f'; {error.hint}' if error.hint else ''}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
