"""Periods on the command line: `30d`, a day, or a time with its zone."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

import click

_AGO = re.compile(r"^(\d{1,5})([hdw])$")
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


def moment_of(text: str, now: datetime) -> datetime:
    """The time that is meant, in UTC: so long before `now`, the beginning of a day, or the time itself.

    Raises:
        ValueError: It is none of these; its text says what would be right.
    """
    ago = _AGO.match(text)
    try:
        if ago:
            return now.astimezone(UTC) - int(ago[1]) * _UNITS[ago[2]]
        if len(text) == len("2026-03-01"):
            return datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"'{text}' is no period; write 30d, 12w, 24h, 2026-03-01 or 2026-03-01T09:00:00Z")


class Since(click.ParamType):
    """A time given in one of the ways that `moment_of` takes."""

    name = "when"

    def convert(self, value: datetime | str, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The time, in UTC."""
        if isinstance(value, datetime):
            return value
        try:
            return moment_of(value, datetime.now(UTC))
        except ValueError as error:
            self.fail(str(error), param, ctx)


SINCE = Since()
