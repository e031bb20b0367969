"""`kyb-stream demo`."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from pathlib import Path

import click
import msgspec

from deploy.embedded.child_log import describe_exit
from deploy.embedded.configuration import KYB_SOURCE, KYC_SOURCE, new_configuration, write_configuration
from deploy.embedded.ports import free_port
from deploy.embedded.stack import APACHE, NOIDA, Stack, start_stack
from deploy.embedded.supervisor import Supervisor
from kybstream.cli.demo_page import show_report
from kybstream.cli.progress import progress_bar
from kybstream.cli.running import run_component
from kybstream.errors import RunError
from kybstream.operations.demo_report import Report, make_report
from kybstream.operations.demonstration import check
from kybstream.operations.migrate import migrate
from kybstream.operations.simulation import link_registrar, simulation_config, source_url
from kybstream.simulator import Target, plan, play
from kybstream.terminal import visible_json

SCALE_SECONDS_PER_DAY = 1.0


@click.command()
@click.option("--cases", type=click.IntRange(1, 20_000), default=200, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True, help="Chooses the histories.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option(
    "--broker",
    default=NOIDA,
    show_default=True,
    metavar="noida|apache|HOST:PORT",
    help="Embedded broker; Apache Kafka by Java and Maven; or one that runs already.",
)
def command(cases: int, seed: int, broker: str, *, as_json: bool) -> int:
    """Run the whole stack in a temporary folder on simulated providers, reconcile, and report.

    Exit 0 only if every delivery and every case is as it must be.
    """
    data_dir = Path(tempfile.mkdtemp(prefix="kyb-stream-demo-"))
    reports: list[Report] = []

    async def run(stop: asyncio.Event) -> None:
        demonstration = asyncio.create_task(_demonstrate(data_dir, broker, cases, seed))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({demonstration, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not demonstration.done():
            demonstration.cancel()
            await asyncio.gather(demonstration, return_exceptions=True)
            raise click.Abort
        reports.append(demonstration.result())

    interrupted = False
    try:
        run_component(run)
    except click.Abort:
        interrupted = True
        raise
    finally:
        if interrupted or (reports and not reports[0].wrong):
            shutil.rmtree(data_dir, ignore_errors=True)
        else:
            click.echo(f"data and logs are kept in {data_dir}", err=True)
    report = reports[0]
    if as_json:
        click.echo(visible_json(msgspec.json.encode(report)))
    else:
        show_report(report)
    return 1 if report.wrong else 0


async def _demonstrate(data_dir: Path, broker: str, cases: int, seed: int) -> Report:
    began = time.monotonic()
    external = broker not in {NOIDA, APACHE}
    values = new_configuration(
        bootstrap_servers=broker if external else f"127.0.0.1:{free_port()}",
        clickhouse_port=free_port(),
        ingress_port=free_port(),
    )
    if external:
        # A broker of the user's own may have topics of his: ours must not mix with them.
        run_name = f"demo-{data_dir.name.rpartition('-')[2]}"
        values["kafka"] = {"bootstrap_servers": broker, "topic_prefix": f"{run_name}."}
        values["worker"] = {"group": f"{run_name}-worker"}
        values["sink"] = {"group": f"{run_name}-sink"}
    config_path = data_dir / "kyb-stream.toml"
    write_configuration(config_path, values, comment="Made by `kyb-stream demo`.")
    stack = Stack(config_path, data_dir, broker)
    settings = stack.settings()
    async with Supervisor() as supervisor:
        await start_stack(stack, supervisor, migrate=migrate, announce=_tell)
        config = simulation_config(
            settings, started_at=int(time.time()), cases=cases, seed=seed, faults="all", scale=SCALE_SECONDS_PER_DAY
        )
        planned = plan(config)
        target = Target(
            kyb_url=source_url(settings, KYB_SOURCE),
            kyc_url=source_url(settings, KYC_SOURCE),
            register_link=link_registrar(settings),
        )
        _tell(f"playing {len(planned.deliveries)} deliveries of {cases} cases; a day takes {SCALE_SECONDS_PER_DAY:g} s")
        died = asyncio.create_task(supervisor.wait_any_exit())
        with progress_bar("sending", len(planned.steps())) as show:
            playing = asyncio.create_task(play(planned, target, progress=show))
            await asyncio.wait({playing, died}, return_when=asyncio.FIRST_COMPLETED)
        if died.done():
            playing.cancel()
            name, code = died.result()
            raise RunError(f"the {name} ended with {describe_exit(code)}", hint=f"Its log is {data_dir}/logs/{name}.log.")
        died.cancel()
        sent = playing.result()
        _tell("waiting until everything is queryable, and reconciling")
        checked = await check(settings, planned, sent)
        return await make_report(
            settings.clickhouse,
            checked,
            scale_seconds_per_day=SCALE_SECONDS_PER_DAY,
            requests=len(sent),
            seconds=time.monotonic() - began,
            peak_memory_bytes=supervisor.peak_rss_bytes,
        )


def _tell(what: str) -> None:
    click.echo(what, err=True)
