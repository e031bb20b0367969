"""`python -m tests.sinks.sink_process SETTINGS_JSON`: a sink in a process of its own, so that a test can kill it."""

from __future__ import annotations

import asyncio
import json
import sys

from kybstream.settings import Settings
from sinks.run import run_sink

if __name__ == "__main__":
    asyncio.run(run_sink(Settings(**json.loads(sys.argv[1])), stop=asyncio.Event()))
