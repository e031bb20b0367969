"""The limit: an aiohttp server that reads a body and sends it back. `python -m bench.door.echo a|a' PORT PROCESSES`."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import sys

import uvloop
from aiohttp import web


async def _low_level(request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(body=await request.read())


async def _routed(request: web.Request) -> web.StreamResponse:
    return web.Response(body=await request.read())


async def _serve(kind: str, port: int) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    if kind == "a":
        server = web.Server(_low_level, access_log=None)
        await asyncio.get_running_loop().create_server(server, "127.0.0.1", port, reuse_port=True, backlog=1024)
    else:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", _routed)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, reuse_port=True, backlog=1024).start()
    await stop.wait()


def main(kind: str, port: int, processes: int) -> None:
    """Serves from so many processes until SIGTERM."""
    others = [
        multiprocessing.get_context("spawn").Process(target=main, args=(kind, port, 1), daemon=True)
        for _ in range(processes - 1)
    ]
    for other in others:
        other.start()
    uvloop.run(_serve(kind, port))
    for other in others:
        other.terminate()
        other.join()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
