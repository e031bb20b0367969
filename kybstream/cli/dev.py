"""`kyb-stream dev`."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import click

from deploy.embedded.child_log import describe_exit
from deploy.embedded.configuration import keep_out_of_git, new_configuration, write_configuration
from deploy.embedded.stack import Stack, start_stack
from deploy.embedded.supervisor import Supervisor
from kybstream.cli import options
from kybstream.cli.running import run_component
from kybstream.errors import RunError
from kybstream.folder_lock import lock_folder
from kybstream.operations.migrate import migrate
from kybstream.privacy import make_case_token
from kybstream.settings import Settings

CONFIG_NAME = "kyb-stream.toml"
EXAMPLE_CASE = "667ab56f0e4e6520880"


@click.command()
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("kyb-stream-data"),
    show_default=True,
    help="Holds data, logs and, unless --config is given, the configuration.",
)
@click.option(
    "--broker",
    default="noida",
    show_default=True,
    metavar="noida|apache|HOST:PORT",
    help="Embedded broker; Apache Kafka by Java and Maven; or one that runs already.",
)
@options.config
def command(data_dir: Path, broker: str, config_path: Path | None) -> None:
    """Run the embedded stack until Ctrl-C. Data stays, and the next start finds it."""
    with suppress(OSError):  # lock_folder tells what is wrong with it
        keep_out_of_git(data_dir)
    with lock_folder(data_dir):
        path = config_path or _own_configuration(data_dir)
        stack = Stack(path.absolute(), data_dir.absolute(), broker)
        if stack.settings().encryption.is_unsaid:
            stack = replace(stack, clear_bodies=True)
        run_component(lambda stop: _run(stack, stop))


def _own_configuration(data_dir: Path) -> Path:
    path = data_dir / CONFIG_NAME
    if not path.exists():
        values = new_configuration(bootstrap_servers="127.0.0.1:9092", clickhouse_port=8123, ingress_port=8080)
        write_configuration(path, values, comment="Made by `kyb-stream dev`, with random tokens and keys. Edit it as you like.")
        click.echo(f"wrote {path}")
    return path


async def _run(stack: Stack, stop: asyncio.Event) -> None:
    stopping = asyncio.create_task(stop.wait())
    async with Supervisor() as supervisor:
        starting = asyncio.create_task(start_stack(stack, supervisor, migrate=migrate, announce=click.echo))
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            return
        starting.result()
        click.echo(_greeting(stack, stack.settings()))
        died = asyncio.create_task(supervisor.wait_any_exit())
        await asyncio.wait({died, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not stopping.done():
            name, code = died.result()
            log = stack.data_dir / "logs" / f"{name}.log"
            raise RunError(f"the {name} ended with {describe_exit(code)}; everything was stopped", hint=f"Its log is {log}.")
        died.cancel()
        click.echo("stopping")


def _greeting(stack: Stack, settings: Settings) -> str:
    """What a newcomer needs next; every line of it works when pasted."""
    lines = ["", "kyb-stream runs. Ctrl-C stops it; the data stays.", "", "Webhook URLs (their tokens are secrets):"]
    base = settings.ingress.base_url
    lines += [f"  {source.kind:17} {base}/webhooks/{source.name}/{source.token}" for source in settings.sources]
    kyb = next((source for source in settings.sources if source.kind == "kyb-service"), None)
    kyc = next((source for source in settings.sources if source.kind == "kyc-registration"), None)
    tenant = settings.tenant(kyc.tenant) if kyc else None
    if kyc and tenant:
        token = make_case_token(EXAMPLE_CASE, tenant.case_token_keys[0].reveal())
        lines += ["", f"KYC callback URL of the case {EXAMPLE_CASE}:", f"  {base}/webhooks/{kyc.name}/{kyc.token}/{token}"]
    clickhouse = settings.clickhouse
    password = f"password in {stack.config_path}" if clickhouse.password.reveal() else "no password"
    lines += ["", f"ClickHouse: {clickhouse.url} (user {clickhouse.username}, {password}, database {clickhouse.database})"]
    if not clickhouse.password.reveal():
        lines += [f"Every program of this machine can ask it: set clickhouse.password in {stack.config_path}."]
    if not settings.encryption.keys:
        lines += [
            "",
            f"Bodies lie in Kafka in clear: there is no [[encryption.keys]] in {stack.config_path}.",
            "`openssl rand -base64 32` makes a key; docs/how-to/production.md says what to write.",
        ]
    if kyb and kyb.signature.scheme == "none":
        body = (
            f'{{"kyb_backoffice_id":"kyb-3nGsq1717871","service_id":"{EXAMPLE_CASE}","type":"service_initiated",'
            '"status":"pending","services":["questionnaire","kyc"],'
            f'"link":"https://backoffice.thekyb.com/cases-detail?company_id=65e4&service_id={EXAMPLE_CASE}"}}'
        )
        lines += [
            "",
            "Send a webhook:",
            f"  curl -i -H 'Content-Type: application/json' -d '{body}' {base}/webhooks/{kyb.name}/{kyb.token}",
        ]
    lines += [
        "",
        "Ask:",
        f"  kyb-stream sql --config {stack.config_path} 'SELECT case_id, kyb_status, outcome FROM current_cases'",  # noqa: S608 (printed, not run)
        "",
    ]
    return "\n".join(lines)
