"""The demonstration's report as a person reads it."""

from __future__ import annotations

import click
from rich.table import Table
from rich.text import Text

from kybstream.cli.consoles import plain_console
from kybstream.operations.demo_report import Quantiles, Report
from kybstream.terminal import visible

_WIDTH = 100


def show_report(report: Report) -> None:
    """Prints the report to standard output."""
    console = plain_console(width=_WIDTH)
    total = sum(report.deliveries.values())
    console.print(_headed("\nDeliveries", f"  {total} acknowledged, in {report.requests} requests"))
    for verdict, count in report.deliveries.items():
        console.print(f"  {verdict:12} {count:6}")
    console.print(f"  duplicate rate {report.duplicate_rate:.1%}")

    console.print(_headed("\nEvents", f"  {sum(report.events.values())}"))
    for kind, count in report.events.items():
        console.print(f"  {kind:26} {count:6}")

    console.print(_headed("\nCases"))
    console.print(_cases(report))

    verb = "is" if report.scale_seconds_per_day == 1 else "are"
    scale = f"  the clock was compressed: {report.scale_seconds_per_day:g} s of this run {verb} one day of the providers"
    console.print(_headed("\nLatency", scale))
    console.print(_latency(report))
    console.print(f"\ntook {report.seconds:g} s, peak memory of all processes {report.peak_memory_mib} MiB")
    if report.wrong:
        console.print(_headed("\nDoes not reconcile:", style="bold red"))
        for finding in report.wrong:
            click.echo(visible(f"  {finding}"))
    else:
        console.print(_headed("Reconciled:", " every delivery and every case is as it must be.", style="bold green"))


def _headed(head: str, rest: str = "", *, style: str = "bold") -> Text:
    return Text.assemble((head, style), rest)


def _cases(report: Report) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    outcomes = sorted({count.outcome for count in report.cases})
    table.add_column("match state")
    for outcome in outcomes:
        table.add_column(outcome, justify="right")
    found = {(count.match_state, count.outcome): count.cases for count in report.cases}
    for state in sorted({count.match_state for count in report.cases}):
        table.add_row(state, *(str(found.get((state, outcome), "")) for outcome in outcomes))
    return table


def _latency(report: Report) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    for name in ("from … to", "count", "p50", "p90", "p99"):
        table.add_column(name, justify="left" if name == "from … to" else "right")
    for source, quantiles in report.case_latency.items():
        table.add_row(f"case open (by {source}) to closed", *_cells(quantiles, days=report.scale_seconds_per_day))
    table.add_row("webhook to queryable, real seconds", *_cells(report.webhook_to_queryable, days=None))
    return table


def _cells(quantiles: Quantiles, *, days: float | None) -> list[str]:
    values = (quantiles.p50, quantiles.p90, quantiles.p99)
    shown = [f"{value:.3f} s" if days is None else f"{value / days:.1f} days" for value in values]
    return [str(quantiles.count), *shown]
