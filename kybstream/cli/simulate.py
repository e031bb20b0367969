"""`kyb-stream simulate`."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import click

from kybstream.cli import options
from kybstream.cli.case_token import kyc_source
from kybstream.cli.progress import progress_bar
from kybstream.errors import UsageError
from kybstream.operations.simulation import link_registrar, simulation_config, source_url
from kybstream.settings import Settings, load_settings
from kybstream.simulator import Faults, Target, plan, play


@click.command()
@click.option("--url", "base_url", help="The ingress; default: ingress.public_url, or host and port, of the configuration.")
@click.option("--cases", type=click.IntRange(1), default=200, show_default=True)
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Deliveries a second, instead of the planned times.")
@click.option("--seed", type=int, default=1, show_default=True, help="Chooses the histories.")
@click.option("--faults", type=click.Choice(["none", "documented", "all"]), default="all", show_default=True)
@click.option(
    "--seconds-per-day", "scale", type=float, default=1.0, show_default=True, help="Real seconds for a provider's day."
)
@options.config
def command(  # noqa: PLR0917 (click passes options by name)
    base_url: str | None,
    cases: int,
    rate: float | None,
    seed: int,
    faults: Faults,
    scale: float,
    config_path: Path | None,
) -> int:
    """Play both providers against an ingress, with retries, duplicates, disorder and malformed bodies.

    It needs the configuration of that ingress for tokens and keys, and Kafka to register links.
    """
    settings = load_settings(config_path)
    config = simulation_config(settings, started_at=int(time.time()), cases=cases, seed=seed, faults=faults, scale=scale)
    planned = plan(config)
    target = Target(
        kyb_url=source_url(settings, _kyb_source_name(settings), base_url),
        kyc_url=source_url(settings, kyc_source(settings, None).name, base_url),
        register_link=link_registrar(settings),
    )
    with progress_bar("sending", len(planned.steps())) as show:
        sent = asyncio.run(play(planned, target, progress=show, rate=rate))
    accepted = [delivery for delivery in sent if delivery.accepted]
    given_up = len({id(each.planned) for each in sent} - {id(each.planned) for each in accepted})
    click.echo(
        f"{len(planned.deliveries)} deliveries planned, {len(sent)} requests, {len(accepted)} accepted, {given_up} given up"
    )
    return 1 if given_up else 0


def _kyb_source_name(settings: Settings) -> str:
    names = [source.name for source in settings.sources if source.kind == "kyb-service"]
    if len(names) != 1:
        raise UsageError(f"the simulator needs one KYB source; the configuration has {len(names)}")
    return names[0]
