"""`kyb-stream`: finds the command, words its errors, and turns them into exit codes.

Exit codes: 0 done, 1 a run that failed, 2 usage or configuration, 130 interrupted.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback

import click

from kybstream.cli.exit_codes import INTERRUPTED
from kybstream.errors import KybStreamError
from kybstream.telemetry import configure_logging
from kybstream.terminal import visible, visible_lines

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("demo", "Run the whole stack on simulated providers, reconcile, and report."),
    "dev": ("dev", "Run the embedded stack until Ctrl-C."),
    "ingress": ("ingress", "Run the HTTP door."),
    "worker": ("worker", "Run the Faust worker: deduplication and join."),
    "sink": ("sink", "Run the writer into ClickHouse."),
    "migrate": ("migrate", "Bring topics and ClickHouse schema to the settings; safe to run again."),
    "repartition": ("repartition", "Grow the number of partitions of all topics."),
    "sql": ("sql", "Run a query on ClickHouse."),
    "report": ("report", "Show how long cases take, on the terminal or as a page with charts."),
    "export": ("export", "Write the event log for process-mining tools."),
    "tail": ("tail", "Show a topic's records as JSON lines, without personal data."),
    "simulate": ("simulate", "Play both providers against an ingress."),
    "reconcile": ("reconcile", "Account for every delivery."),
    "dlq": ("dlq", "Show dead letters, and have them processed again."),
    "replay": ("replay", "Process the raw deliveries of a time range again, after a fix."),
    "case-token": ("case_token", "Print the KYC callback URL of each case."),
    "detect-signature": ("detect_signature", "Find the signature scheme of a captured request."),
    "links": ("links", "Tell which case a KYC subject belongs to."),
    "asyncapi": ("asyncapi", "Print the topics as an AsyncAPI document."),
    "embedded": ("embedded", "Run one embedded server alone."),
}
"""Name of each command, the module of this package that holds it, and what it does in a line."""

SERVERS = frozenset({"ingress", "worker", "sink", "embedded"})
"""Commands whose log is their output; the others talk to a person, who sees warnings only."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called: Faust alone takes a second to import."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands, in the order of the table."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name: `command` in its module."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"kybstream.cli.{COMMANDS[cmd_name][0]}")
        command = module.command
        if not isinstance(command, click.Command):
            raise TypeError(f"{module.__name__}.command is no command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands in `--help`, without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Log at debug level, and show tracebacks.")
@click.version_option(package_name="kyb-stream")
@click.pass_context
def cli(ctx: click.Context, *, debug: bool) -> None:
    """KYB and KYC webhooks, durable in Kafka, joined into cases, queryable in ClickHouse."""
    configure_logging(debug=debug, events=ctx.invoked_subcommand in SERVERS)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line and exits."""
    # Python processes that this one starts, those of multiprocessing included, import nothing from the current folder.
    os.environ["PYTHONSAFEPATH"] = "1"
    given = sys.argv[1:] if arguments is None else arguments
    sys.exit(run(given))


def run(arguments: list[str]) -> int:
    """Runs one command and returns its exit code; nothing but a clear sentence reaches the user when it fails."""
    debug = arguments[:1] == ["--debug"]
    try:
        result = cli.main(args=arguments, prog_name="kyb-stream", standalone_mode=False)
    except Exception as error:  # noqa: BLE001 (the last place where an error can become a sentence)
        if debug and not isinstance(error, (click.exceptions.Exit, click.ClickException, click.Abort)):
            click.echo(visible_lines(traceback.format_exc()), err=True, nl=False)
        return _exit_code(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit:
        # So click ends when nobody reads our output any more, as in `kyb-stream tail … | head`; it exits with 1.
        return 0
    return result if isinstance(result, int) else 0


def _exit_code(error: Exception) -> int:
    """Tells the user what went wrong, if anything did, and gives the exit code."""
    match error:
        case click.exceptions.Exit():
            return error.exit_code
        case click.ClickException():
            error.message = visible_lines(error.message)
            error.show()
            return error.exit_code
        case click.Abort():
            return INTERRUPTED
        case KybStreamError():
            _complain(error.message, error.hint)
            return error.exit_code
        case _:
            # An error's text may quote data; its kind may not.
            _complain(f"unexpected {type(error).__name__}", "`kyb-stream --debug …` shows where; please report it.")
            return 1


def _complain(message: str, hint: str | None) -> None:
    click.echo(f"error: {visible(message)}", err=True)
    if hint:
        click.echo(f"hint: {visible(hint)}", err=True)
