"""`sql`, `tail`, `case-token` and `links` against the running stack."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.commands import failed_clearly
from tests.cli.one_process import run_with
from tests.end_to_end.bodies import case_becomes, kyb, kyc, new_user, send, subject_of
from tests.support.commands import Background, command_line, environment
from tests.support.stack import RunningStack, post
from tests.support.waiting import wait_until

pytestmark = pytest.mark.stack


async def test_sql_prints_tables_json_and_csv(stack: RunningStack) -> None:
    """A table with a count of rows for people; for programs an object a line, or CSV with a header."""
    statement = "SELECT number AS n, concat('a,', toString(number)) AS text, if(n = 1, NULL, 0.5) AS x FROM numbers(2);"
    command = ["sql", statement]
    table, as_json, as_csv = await run_with(stack, command, [*command, "--format", "json"], [*command, "--format", "csv"])
    assert [each.exit_code for each in (table, as_json, as_csv)] == [0, 0, 0]
    lines = [line.rstrip().replace("│", "┃").split("┃") for line in table.out.splitlines()]
    assert [cell.strip() for cell in lines[0]] == ["n", "text", "x"]
    assert [cell.strip() for cell in lines[2]] == ["0", "a,0", "0.5"]
    assert [cell.strip() for cell in lines[3]] == ["1", "a,1", ""]
    assert table.out.endswith("2 rows\n")
    assert [json.loads(line) for line in as_json.out.splitlines()] == [
        {"n": 0, "text": "a,0", "x": 0.5},
        {"n": 1, "text": "a,1", "x": None},
    ]
    assert as_csv.out.splitlines() == ['"n","text","x"', '0,"a,0",0.5', '1,"a,1",\\N']


async def test_wrong_sql_is_told_in_clickhouse_s_words(stack: RunningStack) -> None:
    """Exit code 1, and the unknown column is named, in every format."""
    command = ["sql", "SELECT no_such_column FROM current_cases", "--format"]
    for done in await run_with(stack, *([*command, output] for output in ("table", "json", "csv"))):
        assert failed_clearly(done, 1, "ClickHouse refused: ", "no_such_column")
        assert done.out == ""


async def test_tail_shows_records_without_bodies_and_tokens(stack: RunningStack, case_id: str) -> None:
    """One JSON object a line; of a body, which is encrypted, only its size and the name of its key."""
    user = new_user()
    [url] = (await stack.kyb_stream("case-token", case_id)).out.split()
    callback = kyc(user, remark="private remark")
    await post(url, callback)
    delivery_id = await send(stack, "kyb", b"private and malformed")
    await case_becomes(stack, case_id, match_state="kyc_only")
    raw, letters, events = await run_with(
        stack, *(["tail", topic, "--from-beginning", "--no-follow"] for topic in ("webhooks.raw", "dead-letters", "events"))
    )
    for done in (raw, letters, events):
        assert (done.exit_code, done.err) == (0, "")
        for secret in (user, "private", "last name", url.rpartition("/")[2]):
            assert secret not in done.out

    shown = [json.loads(line) for line in raw.out.splitlines()]
    [callback_shown] = [each for each in shown if each["key"] == f"acme/{subject_of(user)}"]
    assert callback_shown["record"]["body_size"] > len(callback)
    assert callback_shown["record"]["body_key_id"].startswith("k1/acme/")
    assert callback_shown["record"]["case_token_size"] > 40
    assert not {"body", "case_token"} & callback_shown["record"].keys()
    [letter] = [one for line in letters.out.splitlines() if (one := json.loads(line)["record"])["delivery_id"] == delivery_id]
    assert (letter["reason"], letter["body_size"]) == ("not_json", len(b"private and malformed"))
    assert case_id in {json.loads(line)["record"]["case_id"] for line in events.out.splitlines()}


async def test_tail_follows_from_now_and_stops_after_n(stack: RunningStack, case_id: str, tmp_path: Path) -> None:
    """Without `--from-beginning` only what comes is shown; `-n 1` ends it. TOPIC may be the full name."""
    config = ("--config", str(stack.config_path))
    tail = Background("tail", "kyb.events.v1", "-n", "1", *config, log=tmp_path / "tail.log")
    try:
        number = 0

        async def told() -> bool:
            # When it has begun to follow cannot be seen: events are sent until it shows one.
            nonlocal number
            number += 1
            await send(stack, "kyb", kyb(f"{case_id}-{number}", "service_initiated"))
            return tail.exit_code is not None

        await wait_until(told, 30, "tail has ended")
        [line] = tail.output.splitlines()
        assert (tail.exit_code, json.loads(line)["record"]["case_id"].startswith(case_id)) == (0, True)
    finally:
        await tail.close()


async def test_ctrl_c_ends_tail_without_a_traceback(stack: RunningStack, case_id: str, tmp_path: Path) -> None:
    """It exits with 130, as interrupted commands do."""
    await send(stack, "kyb", kyb(case_id, "service_initiated"))
    config = ("--config", str(stack.config_path))
    tail = Background("tail", "events", "--from-beginning", *config, log=tmp_path / "tail.log")
    try:
        await tail.printed(case_id)
        tail.send(signal.SIGINT)
        assert await tail.ended() == 130
        assert "Traceback" not in tail.output
    finally:
        await tail.close()


async def test_tail_ends_quietly_when_nobody_reads_on(stack: RunningStack, case_id: str) -> None:
    """As in `kyb-stream tail … | head -n 1`."""
    for number in range(3):
        await send(stack, "kyb", kyb(f"{case_id}-{number}", "service_initiated"))
    await case_becomes(stack, f"{case_id}-2", outcome="open")
    command = " ".join(command_line("tail", "events", "--from-beginning", "--no-follow", "--config", str(stack.config_path)))
    done = await asyncio.to_thread(
        subprocess.run,
        ["bash", "-c", f"{command} | head -n 1; exit ${{PIPESTATUS[0]}}"],
        check=False,
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (0, "", 1)


async def test_a_case_url_takes_callbacks_for_its_case(stack: RunningStack, case_id: str) -> None:
    """Each line of `case-token` is a callback URL that works; `--token-only` prints what goes into a remark."""
    other = f"{case_id}-b"
    done, only_tokens, wrong = await run_with(
        stack,
        ["case-token", case_id, other],
        ["case-token", "--token-only", case_id, other],
        ["case-token", "--source", "kyb", case_id],
    )
    urls = done.out.splitlines()
    assert (done.exit_code, len(urls)) == (0, 2)
    users = [new_user(), new_user()]
    for url, user in zip(urls, users, strict=True):
        assert (await post(url, kyc(user))).status == 200
    for case, user in zip((case_id, other), users, strict=True):
        row = await case_becomes(stack, case, kyc_status="success", placements=["path_token"])
        assert isinstance(row["subjects"], list)
        assert [each["subject"] for each in row["subjects"] if isinstance(each, dict)] == [subject_of(user)]

    assert only_tokens.out.splitlines() == [url.rpartition("/")[2] for url in urls]
    assert failed_clearly(wrong, 2, "no KYC source is named kyb")


async def test_links_are_added_for_a_tenant_that_must_be_clear(stack: RunningStack, case_id: str) -> None:
    """With two tenants one must be named; the pseudonym is printed, not the person."""
    command = ["links", "add", "--user-no", "somebody", "--merchant-no", "m", "--case", case_id]
    unclear, unknown, done = await run_with(stack, command, [*command, "--tenant", "x"], [*command, "--tenant", "hasty"])
    assert failed_clearly(unclear, 2, "which tenant is meant is not clear")
    assert failed_clearly(unknown, 2, "there is no tenant x")
    assert (done.exit_code, done.err) == (0, "")
    assert done.out.endswith(f" belongs to case {case_id}\n")
    assert "somebody" not in done.out
    await case_becomes(stack, case_id, tenant="hasty", match_state="kyb_only")
