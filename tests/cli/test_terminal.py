"""Nothing that came from outside reaches a terminal or a line format raw: every command meets hostile ids."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import logging
import os
import pty
import re
import subprocess
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from kybstream.cli.consoles import plain_console, table_console
from kybstream.cli.main import cli, run
from kybstream.kafka import durable_producer, ensure_topics
from kybstream.settings import Settings
from kybstream.telemetry import configure_logging
from kybstream.terminal import VisibleCsv, VisibleJson, visible, visible_json, visible_lines
from schemas.codec import encode
from schemas.links import make_link
from schemas.records import Record
from schemas.topics import ALL_TOPICS, DEAD_LETTERS, DELIVERIES, LINKS
from sinks.migrate import migrate
from tests.cli.commands import failed_clearly
from tests.cli.one_process import run_each
from tests.docs.pages import ROOT
from tests.sinks.making import case, dead_letter, delivery, land, settings_for
from tests.support.commands import command_line, environment
from tests.support.stack import Ports, write_stack_configuration

HOSTILE = ':100:[red]\u3164\ufe0fa\x1b[2J\x1b]0;owned\x07\x9b31m\u202e"b",\u2066\u2028\x7f\nsecond\tline\r=cmd()'
RAW = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\xa0\u115f\u2000-\u200f\u2028-\u202e\u2066-\u2069\u2800\u3164\ufe00-\ufe0f\ufeff\ud800-\udfff"
    "\U000e0000-\U000e0fff]"
)
# Hangul and Khmer fillers, marks, selectors, tags, blank braille, spaces that look like others: none may pass.
NOBODY_SEES = [
    *"\xa0\xad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b\u180c\u180d\u180e\u180f\u200b\u200d\u2060\u2065\u206f\u2800\u3000\u3164",
    *"\ufe00\ufe0f\ufeff\uffa0\ufff0\ufff8\ufff9\ufffb\U00013430\U0001343f\U00016fe4\U0001bca0\U0001bca3\U0001d159\U0001d173",
    *"\U0001d17a\U000e0000\U000e0001\U000e0041\U000e007f\U000e0080\U000e0100\U000e01ef\U000e0fff",
]


@given(st.text(st.characters() | st.sampled_from(HOSTILE)))
def test_text_is_shown_and_never_obeyed(text: str) -> None:
    """Whatever it is: on one line, without a control character, and as it was where there was none."""
    shown = visible(text)
    assert not RAW.search(shown)
    assert len(shown.splitlines()) <= 1
    assert "\t" not in shown
    assert not RAW.search(visible_lines(text))
    if text.isprintable() and not any(each in NOBODY_SEES or RAW.search(each) for each in text):
        assert visible(text) == visible_lines(text) == text


@pytest.mark.parametrize("hidden", NOBODY_SEES, ids=ascii)
def test_two_ids_that_differ_in_what_nobody_sees_look_different(hidden: str) -> None:
    """In a sentence, in lines and in JSON."""
    for shown in (visible(f"a{hidden}b"), visible_lines(f"a{hidden}b"), visible_json(f'"a{hidden}b"'.encode())):
        assert shown.isascii()
        assert r"\u" in shown.lower() or r"\x" in shown


@pytest.mark.parametrize(
    "code", [code for code in range(0x110000) if unicodedata.category(chr(code)) in ("Cc", "Zs", "Zl", "Zp")]
)
def test_every_control_and_space_but_one_is_shown(code: int) -> None:
    """As Unicode has them."""
    assert (visible(chr(code)) == chr(code)) == (code == 0x20)


@pytest.mark.parametrize("text", ["Zürich", "株式会社", "Ελλάδα", "नमस्ते", "كتاب", "e\u0301", "😀", "한글", "\u0600"])
def test_what_people_can_read_stays(text: str) -> None:
    """Letters of any script, marks on them, and emoji of one character."""
    assert visible(text) == visible_lines(text) == text


def test_every_console_prints_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """No markup, no emoji; and no command makes a console of its own."""
    table = Table(":100:")
    table.add_row(":smile:[red]x[/red]")
    for console in (plain_console(width=60), plain_console(stderr=True), table_console()):
        console.print("case:100:x [bold]y[/bold]")
        console.print(table)
    told = "".join(capsys.readouterr())
    assert told.count("case:100:x [bold]y[/bold]") == told.count(":smile:[red]x[/red]") == 3
    for module in (ROOT / "kybstream").rglob("*.py"):
        if module.name != "consoles.py":
            assert not re.search(r"\bConsole\(|from rich import|import rich", module.read_text()), module


def test_a_traceback_quotes_and_does_not_obey(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`--debug` shows where, on lines of its own, whatever the error quotes."""

    def fail(**_given: object) -> None:
        raise ValueError(HOSTILE) from KeyError(HOSTILE)

    monkeypatch.setattr(cli, "main", fail)
    assert run(["--debug", "sql", "x"]) == 1
    told = capsys.readouterr().err
    assert "\nTraceback (most recent call last):\n  File " in told
    assert "owned" in told
    assert not RAW.search(told)


@given(st.text(st.characters(codec="utf-8") | st.sampled_from(HOSTILE)), st.integers(1, 7))
def test_json_says_the_same(text: str, size: int) -> None:
    """Whole, and in pieces cut anywhere."""
    raw = json.dumps({text: [text]}, ensure_ascii=False).encode()
    stream = VisibleJson()
    pieces = b"".join(stream.piece(raw[at : at + size]) for at in range(0, len(raw), size)) + stream.finish()
    for shown in (visible_json(raw), pieces.decode()):
        assert not RAW.search(shown)
        assert json.loads(shown) == {text: [text]}


@given(st.lists(st.text(st.characters(codec="utf-8") | st.sampled_from(HOSTILE)), min_size=2, max_size=2), st.integers(1, 7))
def test_csv_stays_csv(texts: list[str], size: int) -> None:
    """A row is a line, and its texts are those that were, made visible."""
    file = io.StringIO()
    csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows([texts, texts])
    raw, stream = file.getvalue().encode(), VisibleCsv()
    shown = b"".join(stream.piece(raw[at : at + size]) for at in range(0, len(raw), size)) + stream.finish()
    assert len(shown.decode().splitlines()) == 2
    assert list(csv.reader(io.StringIO(shown.decode()))) == [[visible(each) for each in texts]] * 2


async def _filled(bootstrap: str, prefix: str, url: str, database: str) -> Settings:
    """Topics and tables with hostile ids in them."""
    settings = settings_for(url, database, bootstrap=bootstrap, prefix=prefix)
    await ensure_topics(settings.kafka, {settings.topic(each.suffix): {} for each in ALL_TOPICS})
    await migrate(settings.clickhouse)
    now = datetime.now(UTC)
    # An older version of `links add` took such a case.
    link = make_link("acme", HOSTILE, "v1.x", expected_subjects=None, registered_at=now)
    letter = dead_letter(1, dead_letter_id=HOSTILE, reason=HOSTILE, tenant=HOSTILE, origin_topic=HOSTILE)
    judged = delivery(1, delivery_id=HOSTILE)
    records: dict[str, Record] = {LINKS: link, DEAD_LETTERS: letter, DELIVERIES: judged}
    async with durable_producer(settings.kafka) as producer:
        for suffix, record in records.items():
            await producer.send_and_wait(settings.topic(suffix), encode(record), key=HOSTILE.encode())
    await land(settings.clickhouse, [judged])
    await land(settings.clickhouse, [case(HOSTILE, tenant=HOSTILE, opened_at=now)])
    return settings


async def test_no_command_passes_on_what_a_terminal_obeys(
    noida_broker: str, topic_prefix: str, clickhouse_server: str, database_name: str, tmp_path: Path
) -> None:
    """Tables, CSV, JSON, sentences and errors; what is JSON or CSV stays it."""
    await _filled(noida_broker, topic_prefix, clickhouse_server, database_name)
    config = write_stack_configuration(tmp_path / "kyb-stream.toml", Ports.free())
    env = {
        "KYB_STREAM_CONFIG": str(config),
        "KYB_STREAM_KAFKA__BOOTSTRAP_SERVERS": noida_broker,
        "KYB_STREAM_KAFKA__TOPIC_PREFIX": topic_prefix,
        "KYB_STREAM_CLICKHOUSE__URL": clickhouse_server,
        "KYB_STREAM_CLICKHOUSE__DATABASE": database_name,
    }
    query = "SELECT case_id, [case_id], map('k', case_id) AS m, case_id AS `a\x1bb` FROM cases"
    commands: Sequence[Sequence[str]] = [
        ["sql", query],
        ["sql", "--format", "json", query],
        ["sql", "--format", "csv", query],
        ["sql", f"SELECT nothing /* {HOSTILE} */ FROM `{HOSTILE}`"],  # noqa: S608 (our own)
        ["report"],
        ["export", "ocel", "-"],
        ["tail", "links", "--from-beginning", "--no-follow"],
        ["tail", "dead-letters", "--from-beginning", "--no-follow"],
        ["tail", HOSTILE],
        ["links", "list"],
        ["links", "list", "--format", "json"],
        ["links", "list", "--format", "csv"],
        ["links", "remove", "--case", HOSTILE, "--subject", "v1.y", "--unlisted"],
        ["links", "remove", "--case", "c", "--subject", HOSTILE],
        ["links", "add", "--case", HOSTILE, "--user-no", "u"],
        ["dlq", "list"],
        ["dlq", "list", "--format", "json"],
        ["dlq", "show", HOSTILE],
        ["dlq", "show", f"{HOSTILE}x"],
        ["dlq", "replay", "--all", "--dry-run"],
        ["dlq", "list", "--since", HOSTILE],
        ["reconcile", "--wait", "0"],
        ["reconcile", "--wait", "0", "--json"],
        ["case-token", HOSTILE],
        ["detect-signature", HOSTILE, "--source", HOSTILE],
        ["simulate", "--url", f"http://127.0.0.1:1/{HOSTILE}", "--cases", "1"],
        [HOSTILE],
    ]
    told = await asyncio.to_thread(run_each, commands, env=env, cwd=tmp_path)
    for command, done in zip(commands, told, strict=True):
        assert not RAW.search(done.out + done.err), command
        assert "Traceback" not in done.err, command
    by_command = {tuple(command): done for command, done in zip(commands, told, strict=True)}
    shown = visible(HOSTILE)
    for table in (("sql", query), ("links", "list"), ("dlq", "list")):
        assert shown in by_command[table].out, table
    [one] = [json.loads(line) for line in by_command["sql", "--format", "json", query].out.splitlines()]
    assert one["case_id"] == HOSTILE
    head, row = csv.reader(io.StringIO(by_command["sql", "--format", "csv", query].out))
    assert (head[3], row[0]) == (r"a\x1bb", shown)
    [listed] = csv.DictReader(by_command["links", "list", "--format", "csv"].out.splitlines())
    assert listed["case_id"] == shown
    assert failed_clearly(by_command["tail", HOSTILE], 2, f"there is no topic {shown}")


async def test_a_format_of_the_statements_own_is_raw_in_a_pipe_and_visible_on_a_terminal(
    clickhouse_server: str, tmp_path: Path
) -> None:
    """It may be binary, so a file gets the bytes."""
    config = write_stack_configuration(tmp_path / "kyb-stream.toml", Ports.free())
    env = environment(
        {
            "KYB_STREAM_CONFIG": str(config),
            "KYB_STREAM_CLICKHOUSE__URL": clickhouse_server,
            "KYB_STREAM_CLICKHOUSE__DATABASE": "default",
        }
    )
    command = command_line("sql", "--format", "csv", "SELECT char(27), 'x' FORMAT TSV")

    def on_a_terminal() -> bytes:
        ours, theirs = pty.openpty()
        process = subprocess.Popen(command, env=env, stdout=theirs, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        os.close(theirs)
        read = b""
        try:
            while piece := os.read(ours, 4096):
                read += piece
        except OSError:  # the end, on Linux
            pass
        os.close(ours)
        process.wait(30)
        return read

    piped = await asyncio.to_thread(subprocess.run, command, env=env, capture_output=True, check=True, timeout=60)
    assert piped.stdout == b"\x1b\tx\n"
    assert await asyncio.to_thread(on_a_terminal) == b"\\x1b\tx\r\n"


@pytest.mark.parametrize("console", [True, False])
def test_logs_quote_and_do_not_obey(*, console: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Events of ours and messages of libraries, in lines for people and in JSON."""
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        configure_logging(console=console)
        structlog.get_logger("ours").warning("refused", case=HOSTILE, many=[HOSTILE])
        logging.getLogger("theirs").warning("cannot read %s", HOSTILE)
        try:
            int(HOSTILE)
        except ValueError:
            structlog.get_logger("ours").exception("failed")
        told = capsys.readouterr().err
    finally:
        logging.getLogger().handlers[:] = handlers
        logging.getLogger().setLevel(level)
        structlog.reset_defaults()
    assert "refused" in told
    assert "owned" in told
    assert not RAW.search(told)
    assert "\nsecond" not in told.partition("failed")[0]
