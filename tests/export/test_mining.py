"""What a process-mining tool reads from the exports: pm4py discovers the process that the history was made of."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from kybstream.settings import ClickHouseSettings
from tests.cli.one_process import run_each
from tests.docs.pages import ROOT
from tests.export.history import CASES, REJECTED, RESUBMITTED, land_history

_PROGRAM = "import sys; sys.path.append(sys.argv.pop(1)); from tests.export.mining import run; run()"


@pytest.mark.stack
async def test_pm4py_discovers_the_process(clickhouse: ClickHouseSettings, tmp_path: Path) -> None:
    """Both files are read; the maps have the activities, edges and frequencies of the history, by case and by object."""
    await land_history(clickhouse)
    env = {"KYB_STREAM_CLICKHOUSE__URL": clickhouse.url, "KYB_STREAM_CLICKHOUSE__DATABASE": clickhouse.database}
    commands = [["export", "xes", "--tenant", "acme", "cases.xes.gz"], ["export", "ocel", "cases.json"]]
    for done in await asyncio.to_thread(run_each, commands, env=env, cwd=tmp_path):
        assert (done.exit_code, done.err) == (0, "")
    mined = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", _PROGRAM, str(ROOT), "cases.xes.gz", "cases.json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert mined.returncode == 0, mined.stderr[-2000:]
    found = json.loads(mined.stdout.splitlines()[-1])

    assert f"kyb_check -> completed: {CASES}\n" in found["printed"]
    assert found["cases"] == CASES + REJECTED
    assert found["columns"]["time:timestamp"].startswith("datetime64")
    assert {"case:outcome", "lifecycle:transition", "org:resource", "subject"} <= found["columns"].keys()
    temporary, success, permanent = (f"kyc_result {each}" for each in ("temporary_rejection", "success", "permanent_rejection"))
    assert found["map"] == {
        "edges": [
            ["aml", "kyb_check", 2 * CASES],
            ["aml", permanent, REJECTED],
            ["kyb_check", "completed", CASES],
            ["kyb_check", success, CASES - RESUBMITTED],
            ["kyb_check", temporary, RESUBMITTED],
            [permanent, "rejected", REJECTED],
            [success, "aml", CASES],
            [temporary, success, RESUBMITTED],
        ],
        "start": {"aml": CASES + REJECTED},
        "end": {"completed": CASES, "rejected": REJECTED},
    }
    assert found["activities"] == ["aml", "completed", "kyb_check", permanent, success, temporary, "rejected"]
    assert found["fitness"] == 1
    assert found["variants"] == [3, 6, 7]

    assert found["objects"] == {"case": CASES + REJECTED + 1, "service": 2 * CASES + REJECTED + 1, "subject": CASES + 1}
    assert found["relations"] == ["has", "verifies"]
    assert found["maps"]["service"] == {
        "edges": [["service_initiated", "service_resolved", 2 * CASES]],
        "start": {"service_initiated": 2 * CASES + REJECTED + 1},
        "end": {"service_resolved": 2 * CASES, "service_initiated": REJECTED + 1},
    }
    # Two cases share a person: one case after the other, which no map of cases can show.
    assert found["maps"]["subject"]["edges"] == [[permanent, permanent, 1], [temporary, success, RESUBMITTED]]
    assert ["service_initiated", success, CASES - RESUBMITTED] in found["maps"]["case"]["edges"]
    assert found["maps"]["case"]["end"] == {"completed": CASES, "rejected": REJECTED, "service_initiated": 1}
