"""Logs: structured, one event name a line, ids but no personal data and no secrets."""

from __future__ import annotations

import logging
import sys

import structlog

from kybstream.outages import FILTER
from kybstream.terminal import visible, visible_lines

_MANY_LINES = frozenset({"exception", "stack"})
_NOISY = ("aiokafka", "faust", "mode", "asyncio", "aiohttp.access", "urllib3", "clickhouse_connect")


class _Shown:
    """A value whose representation holds nothing that a terminal obeys or nobody sees: `repr` leaves fillers as they are."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __repr__(self) -> str:
        return visible(repr(self._value))


def _visible(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Whatever a line quotes, made safe for a terminal."""
    return {
        name: (visible_lines if name in _MANY_LINES else visible)(value) if isinstance(value, str) else _Shown(value)
        for name, value in event.items()
    }


def configure_logging(*, debug: bool = False, events: bool = True, console: bool | None = None) -> None:
    """Sets up logging of this process, to standard error.

    Args:
        debug: Log at DEBUG; otherwise our own events, and warnings of the libraries.
        events: Log our own events at INFO; otherwise warnings only.
        console: Readable lines; JSON lines when False. By default readable exactly on a terminal.
    """
    readable = sys.stderr.isatty() if console is None else console
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()) if readable else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                *([_visible] if readable else []),  # JSON has escapes of its own
                renderer,
            ],
        )
    )
    if not debug:
        handler.addFilter(FILTER)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if debug else logging.INFO if events else logging.WARNING)
    for name in _NOISY:
        # aiokafka's debug logging alone costs 8-13 % of a consumer's speed.
        # A person is told by our own sentence what the libraries log on the way to it.
        logging.getLogger(name).setLevel(logging.WARNING if events or debug else logging.CRITICAL)
