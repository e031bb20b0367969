"""What commands of an operator share: who gives it, and times and secrets on the command line."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime

import click

from kybstream.errors import UsageError
from kybstream.settings import Secret

_LONGEST_NAME = 100

SECRET_REFERENCES = ("env:", "file:")

by = click.option("--by", metavar="NAME", help="Who does it, for the record. Default: the operating system's user.")


def operator(given: str | None) -> str:
    """Who gives the command.

    Raises:
        UsageError: Nobody is named and the system does not know either, or the name is no name.
    """
    try:
        name = (getpass.getuser() if given is None else given).strip()
    except (KeyError, OSError):  # a user id without an account, as in a container
        raise UsageError("the operating system does not name its user", hint="Say who does it: --by NAME") from None
    if not name or len(name) > _LONGEST_NAME or not name.isprintable():
        raise UsageError(f"--by takes a name of 1 to {_LONGEST_NAME} printable characters")
    return name


def secret_reference(option: str, given: str) -> Secret:
    """The secret behind an option's value, which may not be the secret itself.

    Raises:
        UsageError: It is no reference, or leads nowhere.
    """
    if not given.startswith(SECRET_REFERENCES):
        # Not repeated here: it may be the secret itself.
        raise UsageError(f"{option} takes env:NAME or file:PATH", hint="A secret in a command line can be read by others.")
    try:
        return Secret.resolve(given)
    except ValueError as error:
        raise UsageError(f"{option} {error}") from None


class Moment(click.ParamType):
    """A point in time: ISO 8601 with its zone, because a time without one would mean something else on each machine."""

    name = "time"

    def convert(self, value: datetime | str, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The time, in UTC."""
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"'{value}' is no time; write it as 2026-03-01T09:00:00Z", param, ctx)
        if moment.tzinfo is None:
            self.fail(f"'{value}' has no zone; write it as 2026-03-01T09:00:00Z or 2026-03-01T10:00:00+01:00", param, ctx)
        try:
            return moment.astimezone(UTC)
        except OverflowError:
            self.fail(f"'{value}' is out of range", param, ctx)


MOMENT = Moment()
