"""`kyb-stream report`."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime
from pathlib import Path

import click

from kybstream.cli import options
from kybstream.cli.period import SINCE
from kybstream.cli.report_page import show_report
from kybstream.errors import UsageError
from kybstream.operations.report.asking import make_report
from kybstream.operations.report.page import html_page
from kybstream.operations.whole_file import whole_file
from kybstream.settings import load_settings

_EARLIEST = date(1970, 1, 1)
"""Of ClickHouse's type Date."""


@click.command()
@click.option(
    "--since",
    type=SINCE,
    default="30d",
    show_default=True,
    help="Begin of the period: 30d, 12w or 2026-03-01; whole days, UTC.",
)
@click.option("--tenant", help="Of this tenant only.")
@click.option("--html", "html_path", metavar="FILE", help="Write a page with charts instead; - is standard output.")
@options.config
def command(since: datetime, tenant: str | None, html_path: str | None, config_path: Path | None) -> None:
    """Show how long cases take, what is open, and where they get stuck.

    With --html as one self-contained page with charts: nothing is loaded when it is viewed.
    """
    now = datetime.now(UTC)
    if since > now:
        raise UsageError("--since is in the future")
    settings = load_settings(config_path)
    report = asyncio.run(make_report(settings.clickhouse, since=max(since.date(), _EARLIEST), made_at=now, tenant=tenant))
    if tenant and report.is_empty and tenant not in {each.name for each in settings.tenants}:
        raise UsageError(
            f"there is no tenant {tenant}", hint="Neither in the configuration, nor with a case or a delivery in ClickHouse."
        )
    if html_path is None:
        show_report(report)
        return
    with whole_file(html_path) as file:
        file.write(html_page(report).encode())
    if html_path != "-":
        click.echo(f"wrote {html_path}")
