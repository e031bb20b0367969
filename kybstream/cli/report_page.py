"""The report as a person reads it on a terminal."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kybstream.charts.elements import shortened
from kybstream.charts.scales import duration
from kybstream.cli.consoles import plain_console
from kybstream.operations.report import reading
from kybstream.operations.report.figures import Report, Spread
from kybstream.operations.report.statements import TABLE_SECONDS
from kybstream.terminal import visible

_WIDTH = 100
_BAR = 30
_LONGEST_NAME = 32
_SERVICES = 12
_POINTS = 14


def show_report(report: Report) -> None:
    """Prints the report to standard output."""
    console = plain_console(width=min(_WIDTH, plain_console().width) if sys.stdout.isatty() else _WIDTH)
    console.print(Text("Case latency", style="bold"))
    console.print(Text(visible(reading.heading(report))))
    if report.is_empty:
        console.print("\nThere are no cases and no deliveries yet.")
        return
    console.print()
    for name, figure, what in reading.key_figures(report):
        console.print(Text.assemble(f"  {name:16}", (f"{figure:>12}", "bold"), f"  {what}"))
    _part(console, report, "latency", reading.latency(report), _latency(report), _parts(report))
    _part(console, report, "survival", reading.survival(report), _survival(report))
    _part(console, report, "funnel", reading.funnel(report), _funnel(report))
    _part(console, report, "services", reading.services(report), _services(report))
    _part(console, report, "ageing", reading.ageing(report), _ageing(report))
    _part(console, report, "duplicates", reading.duplicates(report), _duplicates(report))
    if len(report.tenants) > 1:
        console.print(Text("\nTenants", style="bold"))
        console.print(_tenants(report))
    console.print("\nDays are days in UTC. `kyb-stream report --html report.html` draws the charts.")


def _part(console: Console, report: Report, key: str, said: str, *tables: Table) -> None:
    console.print(Text(f"\n{reading.title(report, key)}", style="bold"))
    console.print(Text(visible(said)))
    for table in tables:
        if table.row_count:
            console.print(table)


def _table(*heads: str) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    for index, head in enumerate(heads):
        table.add_column(head, justify="left" if index == 0 or not head else "right", no_wrap=True)
    return table


def _row(table: Table, *cells: str) -> None:
    table.add_row(*(Text(visible(cell)) for cell in cells))


def _latency(report: Report) -> Table:
    table = _table({1: "day", 7: "week from"}.get(report.bucket_days, "month from"), "cases", "median", "p90", "p99")
    for each in report.latency[-_POINTS:]:
        _row(table, f"{each.day:%Y-%m-%d}", *_spread(each))
    return table


def _parts(report: Report) -> Table:
    table = _table("part", "cases", "median", "p90", "p99")
    names = {"case": "case: opening to close", "kyb": "KYB half", "kyc": "KYC half"}
    for each in [each for each in report.parts if each.measured][: _SERVICES + len(names)]:
        _row(table, names.get(each.part, f"service {shortened(each.service, _LONGEST_NAME)}"), *_spread(each))
    return table


def _survival(report: Report) -> Table:
    table = _table("after", "still open", "95 % interval", "")
    for seconds in TABLE_SECONDS:
        step = report.survival.at(seconds)
        if step is not None:
            known = step.lower is not None and step.upper is not None
            interval = f"{step.lower:.1%} to {step.upper:.1%}" if known else reading.NONE
            _row(table, duration(seconds), f"{step.survival:.1%}", interval, _bar(step.survival, 1))
    return table


def _funnel(report: Report) -> Table:
    table = _table("step", "cases", "share", "")
    for whole in report.funnel[:1]:
        for name, count in reading.funnel_steps(whole):
            _row(table, name, f"{count:,}", reading.percent(count, whole.cases), _bar(count, whole.cases))
    return table


def _services(report: Report) -> Table:
    table = _table("service", "cases", "resolved", "share", "")
    for each in report.funnel[1 : _SERVICES + 1]:
        share = reading.percent(each.resolved, each.cases)
        _row(
            table,
            shortened(each.service, _LONGEST_NAME),
            f"{each.cases:,}",
            f"{each.resolved:,}",
            share,
            _bar(each.resolved, each.cases),
        )
    return table


def _ageing(report: Report) -> Table:
    table = _table("days", "open", "awaiting resubmission", "past deadline", "")
    most = max(each.cases for each in report.ageing)
    for each in report.ageing if most else ():
        counts = (f"{count:,}" for count in (each.open, each.awaiting_resubmission, each.past_deadline))
        _row(table, each.bucket, *counts, _bar(each.cases, most))
    return table


def _duplicates(report: Report) -> Table:
    table = _table(f"worst {reading.stretch(report)}s", "deliveries", "duplicates", "")
    worst = reading.most_duplicates(report, 5)
    for each in worst:
        _row(
            table,
            reading.beginning(report, each),
            f"{each.deliveries:,}",
            f"{each.duplicates:,}",
            _bar(each.duplicates, worst[0].duplicates),
        )
    return table


def _tenants(report: Report) -> Table:
    table = _table("tenant", "opened", "closed", "open now", "median", "p90", "p99")
    for each in report.tenants[:_SERVICES]:
        spread = (reading.NONE if seconds is None else duration(seconds) for seconds in (each.p50, each.p90, each.p99))
        _row(table, each.tenant, *(f"{count:,}" for count in (each.opened, each.closed, each.open)), *spread)
    return table


def _spread(spread: Spread) -> tuple[str, ...]:
    return (f"{spread.count:,}", *(duration(seconds) for seconds in (spread.p50, spread.p90, spread.p99)))


def _bar(value: float, most: float) -> str:
    """As long as its share of `most`, to an eighth of a character."""
    eighths = round(_BAR * 8 * value / most) if most else 0
    return "█" * (eighths // 8) + (" ▏▎▍▌▋▊▉"[eighths % 8] if eighths % 8 else "")
