"""`kyb-stream export` as a person calls it."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from kybstream.settings import ClickHouseSettings
from tests.cli.commands import failed_clearly
from tests.cli.one_process import run_each
from tests.export.history import CASES, REJECTED, RESUBMITTED, land_history
from tests.export.test_writers import check_ocel
from tests.support.commands import Finished

EVENTS = 6 * CASES + RESUBMITTED + 3 * REJECTED


async def _run(clickhouse: ClickHouseSettings, folder: Path, *commands: Sequence[str]) -> list[Finished]:
    env = {"KYB_STREAM_CLICKHOUSE__URL": clickhouse.url, "KYB_STREAM_CLICKHOUSE__DATABASE": clickhouse.database}
    return await asyncio.to_thread(run_each, commands, env=env, cwd=folder)


def _contents(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.iterdir()}


@pytest.mark.stack
async def test_files_and_standard_output(clickhouse: ClickHouseSettings, tmp_path: Path) -> None:
    """A file, a compressed one, and standard output hold the same; it is told how much was written, beside what is written."""
    await land_history(clickhouse)
    file, packed, streamed, ocel, of_one = await _run(
        clickhouse,
        tmp_path,
        ["export", "xes", "--tenant", "acme", "log.xes"],
        ["export", "xes", "--tenant", "acme", "log.xes.gz"],
        ["export", "xes", "--tenant", "acme", "-"],
        ["export", "ocel", "log.json"],
        ["export", "ocel", "--since", "2026-03-13", "--until", "2026-03-14T00:00:00Z", "-"],
    )
    assert (file.exit_code, file.out, file.err) == (0, f"wrote {CASES + REJECTED} cases, {EVENTS} events\n", "")
    assert (streamed.exit_code, streamed.err) == (0, file.out)
    written = _contents(tmp_path)
    assert written.keys() == {"log.xes", "log.xes.gz", "log.json"}
    assert gzip.decompress(written["log.xes.gz"]) == written["log.xes"] == streamed.out.encode()
    read = json.loads(written["log.json"])
    check_ocel(read)
    assert ocel.out == f"wrote {CASES + REJECTED + 1} cases, {len(read['events'])} events\n"
    assert {each["id"] for each in read["objects"] if each["type"] == "case"} >= {"case:acme/s0", "case:globex/s0"}
    assert len([each for each in read["objects"] if each["type"] == "subject"]) == CASES + 1
    assert [each["id"] for each in json.loads(of_one.out)["objects"] if each["type"] == "case"] == ["case:acme/s3"]
    assert packed.exit_code == 0


@pytest.mark.stack
async def test_what_fails_leaves_the_former_file(
    clickhouse: ClickHouseSettings, clickhouse_server: str, tmp_path: Path
) -> None:
    """Not half a log, no temporary file: without the database, with an unknown tenant, with wrong periods."""
    (tmp_path / "log.xes").write_bytes(b"yesterday's")
    nowhere = ClickHouseSettings(url=clickhouse_server, database="not_there")
    [missing] = await _run(nowhere, tmp_path, ["export", "xes", "log.xes"])
    unknown, backwards, wrong, empty = await _run(
        clickhouse,
        tmp_path,
        ["export", "ocel", "--tenant", "acmee", "log.xes"],
        ["export", "xes", "--since", "1d", "--until", "2d", "log.xes"],
        ["export", "xes", "--since", "soon", "log.xes"],
        ["export", "xes", "empty.xes"],
    )
    assert failed_clearly(missing, 1, "ClickHouse refused")
    assert failed_clearly(unknown, 2, "there is no tenant acmee")
    assert failed_clearly(backwards, 2, "--since must be before --until")
    assert (wrong.exit_code, "'soon' is no period" in wrong.err) == (2, True)
    assert (empty.exit_code, empty.out) == (0, "wrote 0 cases, 0 events\n")
    written = _contents(tmp_path)
    assert written.keys() == {"log.xes", "empty.xes"}
    assert written["log.xes"] == b"yesterday's"
