"""`kyb-stream report` as a person calls it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kybstream.cli.period import moment_of
from kybstream.settings import ClickHouseSettings
from tests.cli.commands import failed_clearly
from tests.cli.one_process import run_each
from tests.report.history import land_history
from tests.support.commands import Finished

NOW = datetime(2026, 3, 10, 12, 30, tzinfo=UTC)


async def _run(clickhouse: ClickHouseSettings, *commands: Sequence[str], cwd: Path | None = None) -> list[Finished]:
    env = {"KYB_STREAM_CLICKHOUSE__URL": clickhouse.url, "KYB_STREAM_CLICKHOUSE__DATABASE": clickhouse.database}
    return await asyncio.to_thread(run_each, commands, env=env, cwd=cwd)


def _names(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir()]


@pytest.mark.stack
async def test_a_report_on_the_terminal_and_as_a_page(clickhouse: ClickHouseSettings, tmp_path: Path) -> None:
    """All sections, within 100 columns, no control character of a name; the page replaces a file at once, or goes to stdout."""
    await land_history(clickhouse, datetime.now(UTC), cases=90, tenants=("acme", "globex"), hostile=True)
    (tmp_path / "report.html").write_text("an older one")
    shown, of_one, page, streamed, late = await _run(
        clickhouse,
        ["report"],
        ["report", "--tenant", "acme", "--since", "12w"],
        ["report", "--html", "report.html"],
        ["report", "--html", "-"],
        ["report", "--since", "99999w"],
        cwd=tmp_path,
    )
    for done in (shown, of_one, page, streamed, late):
        assert (done.exit_code, done.err) == (0, "")
    for text in (
        "all tenants",
        "How long closed cases took",
        "Counting open cases too",
        "How far cases came",
        "What is open now, by age",
        "Repeated deliveries by hour",
        "Tenants",
        "service aml",
        r"[red]\x1b[31m\u202e<scri",
    ):
        assert text in shown.out
    assert max(len(line) for line in shown.out.splitlines()) <= 100
    assert not any(character in shown.out for character in "\x1b\u202e")
    assert "Tenants" not in of_one.out
    assert "week from" in of_one.out
    assert "Repeated deliveries by day" in of_one.out
    assert page.out == "wrote report.html\n"
    assert _names(tmp_path) == ["report.html"]
    written = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert written.count("<svg") == streamed.out.count("<svg") == 6
    assert streamed.out.endswith("</html>\n")


@pytest.mark.stack
async def test_what_cannot_be_reported_is_said(clickhouse: ClickHouseSettings, tmp_path: Path) -> None:
    """No cases yet is no error; an unknown tenant, a wrong period and a file that cannot be are, with exit code 2."""
    empty, unknown, future, wrong, folder, nowhere = await _run(
        clickhouse,
        ["report"],
        ["report", "--tenant", "acmee"],
        ["report", "--since", "2999-01-01"],
        ["report", "--since", "yesterday"],
        ["report", "--html", str(tmp_path)],
        ["report", "--html", str(tmp_path / "not" / "there.html")],
    )
    assert (empty.exit_code, empty.err) == (0, "")
    assert "There are no cases and no deliveries yet." in empty.out
    assert failed_clearly(unknown, 2, "there is no tenant acmee")
    assert failed_clearly(future, 2, "--since is in the future")
    assert (wrong.exit_code, "'yesterday' is no period; write 30d" in wrong.err) == (2, True)
    assert failed_clearly(folder, 2, "is no file")
    assert failed_clearly(nowhere, 2, "No such file or directory")
    assert _names(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("30d", NOW - timedelta(days=30)),
        ("2w", NOW - timedelta(days=14)),
        ("24h", NOW - timedelta(days=1)),
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
        ("2026-03-01T10:00:00+01:00", datetime(2026, 3, 1, 9, tzinfo=UTC)),
    ],
)
def test_a_period(text: str, meant: datetime) -> None:
    """So long ago, the beginning of a day in UTC, or a time with its zone."""
    assert moment_of(text, NOW) == meant


@pytest.mark.parametrize(
    "text", ["", "30", "d", "-3d", "3y", "123456w", "2026-13-01", "2026-03-01T10:00:00", "0001-01-01T00:00:00+23:59"]
)
def test_no_period(text: str) -> None:
    """Anything else is refused with what would be right; a time without a zone, too."""
    with pytest.raises(ValueError, match="write 30d"):
        moment_of(text, NOW)
