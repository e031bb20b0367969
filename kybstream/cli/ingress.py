"""`kyb-stream ingress`."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import click
import structlog

from ingress.seat import Seat
from ingress.workers import Workers
from kybstream.cli import options
from kybstream.cli.running import ready_marker, run_component
from kybstream.settings import Settings, load_settings

MOST_WORKERS = 64


@click.command()
@options.config
@options.ready_file
@click.option(
    "--workers",
    type=click.IntRange(1, MOST_WORKERS),
    default=1,
    show_default=True,
    help="Processes that share the port, with a parent that restarts them: each when it ends, all in turn on SIGHUP (Linux).",
)
@click.option("--check", is_flag=True, help="Say whether the settings are right, and end.")
@click.option("--seat", hidden=True, help="Given to a worker by its parent.")
@click.pass_context
def command(
    context: click.Context, config_path: Path | None, ready_file: Path | None, workers: int, seat: str | None, *, check: bool
) -> None:
    """Run the HTTP door: each delivery is durable in Kafka before it is answered with 200."""
    if check:
        _check(load_settings(config_path))
        click.echo("the settings are right")
    elif seat is not None:
        taken = Seat.decode(seat)
        structlog.contextvars.bind_contextvars(worker=taken.index)
        settings = load_settings(config_path)
        run_component(lambda stop: _serve(settings, stop, None, taken), fast_loop=True)
    elif workers == 1:
        settings = load_settings(config_path)
        with ready_marker(ready_file) as ready:
            run_component(lambda stop: _serve(settings, stop, ready, None), fast_loop=True)
    else:
        debug = context.parent is not None and bool(context.parent.params.get("debug"))
        context.exit(_run_workers(config_path, ready_file, workers, debug=debug))


async def _serve(settings: Settings, stop: asyncio.Event, ready: Callable[[], None] | None, seat: Seat | None) -> None:
    # Imported late: the parent of workers takes no request, and is half as large without what does.
    from ingress.server import serve  # noqa: PLC0415

    await serve(settings, stop=stop, ready=None if ready is None else lambda _url: ready(), seat=seat)


def _check(settings: Settings) -> None:
    from ingress.server import authentication_and_encryption  # noqa: PLC0415 - as above

    authentication_and_encryption(settings)


def _run_workers(config_path: Path | None, ready_file: Path | None, count: int, *, debug: bool) -> int:
    flags = ["--debug"] if debug else []
    config = [] if config_path is None else ["--config", str(config_path)]
    # -P: from installed packages alone, whatever the current folder holds.
    command = [sys.executable, "-P", "-m", "kybstream.cli", *flags, "ingress", *config]
    workers = Workers(
        load_settings(config_path).ingress,
        count,
        command=lambda seat: [*command, "--seat", seat.encode()],
        check=[*command, "--check"],
    )
    codes: list[int] = []

    async def component(stop: asyncio.Event) -> None:
        renew = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, renew.set)
        codes.append(await workers.run(stop=stop, renew=renew, ready=lambda _url: ready()))

    with ready_marker(ready_file) as ready:
        run_component(component)
    return codes[0]
