"""docs/reference/commands.md: the help of each command, as the command prints it."""

from __future__ import annotations

from collections.abc import Iterator

import click

from kybstream.cli.main import COMMANDS, cli
from tests.docs.markdown import intro

WIDTH = 110

INTRO = intro("commands")


def commands_page() -> str:
    """The whole page."""
    sections = [INTRO]
    for path, command in _commands():
        context = click.Context(command, info_name=path, terminal_width=WIDTH, max_content_width=WIDTH)
        sections.append(f"## {path}\n\n```text\n{command.get_help(context).strip()}\n```\n")
    return "\n".join(sections)


def options_by_command() -> dict[str, frozenset[str]]:
    """Every option, long and short, of each command by the command's full name."""
    found = {path: {name for parameter in command.params for name in parameter.opts} for path, command in _commands()}
    return {path: frozenset(names | {"--help", "-h"}) for path, names in found.items()}


def _commands() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(cli, info_name="kyb-stream")
    yield "kyb-stream", cli
    for name in COMMANDS:
        command = cli.get_command(context, name)
        if command is not None:
            yield from _with_subcommands(f"kyb-stream {name}", command)


def _with_subcommands(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from _with_subcommands(f"{path} {name}", inner)
