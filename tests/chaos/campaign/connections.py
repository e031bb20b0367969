"""Connections to Kafka that pass through here, so that they can be made slow or cut."""

from __future__ import annotations

import asyncio
from contextlib import suppress

_CHUNK = 64 * 1024
HOST = "127.0.0.1"


class Relay:
    """A TCP relay to one server. Slow or cut, it is so for every connection.

    Args:
        port: Where it listens.
        target: The server's port.
    """

    def __init__(self, port: int, target: int) -> None:
        self.port = port
        self.delay_seconds = 0.0
        self._target = target
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listens. Does nothing if it does."""
        if self._server is None:
            self._server = await asyncio.start_server(self._relay, HOST, self.port)

    async def cut(self) -> None:
        """Resets what is open, and refuses new connections until `open`."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in tuple(self._writers):
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            with suppress(OSError):
                there, back = await asyncio.open_connection(HOST, self._target)
                self._writers.add(back)
                try:
                    await asyncio.gather(self._copy(reader, back), self._copy(there, writer))
                finally:
                    self._writers.discard(back)
                    back.transport.abort()
        finally:
            self._writers.discard(writer)
            self._tasks.discard(task)
            writer.transport.abort()

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(_CHUNK):
            if self.delay_seconds:
                await asyncio.sleep(self.delay_seconds)
            sink.write(data)
            await sink.drain()
        sink.transport.abort()  # nothing of ours half-closes a connection to Kafka
