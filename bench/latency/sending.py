"""Webhooks at random moments, so many a second on average, whether the last was answered or not.

`python -m bench.latency.sending HOST PORT PATH RATE SECONDS RUN RESULTS`

Each is of a case of its own. When it was due counts, not when there was a connection for it: a door that is slow cannot make
its own figures better. Results: a line of JSON for each: service id, when it was due in microseconds since the epoch, seconds
until the answer.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from pathlib import Path

import uvloop

CONNECTIONS = 32
_PAYLOAD = Path(__file__).parents[2] / "tests/fixtures/kyb/01_business_information_service_initiated.json"

Sent = tuple[str, int, float]
"""Service id, when it was due, seconds until the answer."""


async def send(
    host: str, port: int, path: str, *, rate: float, seconds: float, run: str, only: int | None = None
) -> list[Sent]:
    """Sends, and returns what was sent.

    Args:
        host: Of the ingress.
        port: Of the ingress.
        path: Of the source.
        rate: A second, on average.
        seconds: For so long.
        run: Begins the service ids, and chooses the moments.
        only: So many at once instead, by one connection each.

    Raises:
        RuntimeError: An answer is not 200.
    """
    due: asyncio.Queue[tuple[int, float]] = asyncio.Queue()
    sent: list[Sent] = []
    payload = json.loads(_PAYLOAD.read_text(encoding="utf-8"))
    wall = time.time() - time.perf_counter()

    async def connection() -> None:
        reader, writer = await asyncio.open_connection(host, port)
        while True:
            number, moment = await due.get()
            service_id = f"{run}-{number:08d}"
            body = json.dumps(payload | {"service_id": service_id}).encode()
            head = (
                f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(answer.split(b"\r\n")[0].decode())
            length = next(line for line in answer.split(b"\r\n") if line.lower().startswith(b"content-length"))
            await reader.readexactly(int(length.split(b":")[1]))
            sent.append((service_id, int((wall + moment) * 1e6), time.perf_counter() - moment))
            due.task_done()

    tasks = [asyncio.create_task(connection()) for _ in range(only or CONNECTIONS)]
    dice = random.Random(run)  # noqa: S311
    moment = time.perf_counter()
    end, number = moment + seconds, only or 0
    for each in range(number):
        due.put_nowait((each, moment))
    while not only and (moment := moment + dice.expovariate(rate)) < end:
        await asyncio.sleep(max(0.0, moment - time.perf_counter()))
        due.put_nowait((number, moment))
        number += 1
    joined = asyncio.create_task(due.join())
    await asyncio.wait({joined, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        if task.done():
            task.result()
        task.cancel()
    return sent


def main(host: str, port: str, path: str, rate: str, seconds: str, run: str, results: str) -> None:  # noqa: PLR0917
    """Sends, and writes the results."""
    sent = uvloop.run(send(host, int(port), path, rate=float(rate), seconds=float(seconds), run=run))
    Path(results).write_text("".join(json.dumps(each) + "\n" for each in sent), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
