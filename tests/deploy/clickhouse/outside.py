"""What a confined query must not reach."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

SECRET = "what-only-the-owner-may-read"
# Refused by the engine's grants (497) and constraints (452), or because the thing is not there at all.
REFUSALS = {"1", "36", "42", "46", "60", "62", "452", "497", "609", "610", "701", "801", "90"}


@dataclass
class Outside:
    """What a query could reach: a file, a place to write to, and a server."""

    file: Path
    out: Path
    here: str = ""
    connected: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """The server runs."""

        def met(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connected.append("somebody")
            writer.close()

        async with await asyncio.start_server(met, "127.0.0.1", 0) as server:
            self.here = "{}:{}".format(*server.sockets[0].getsockname()[:2])
            yield
