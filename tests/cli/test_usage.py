"""Help, wrong usage and wrong configurations: exit code 0 or 2, and a sentence that names file and key."""

from __future__ import annotations

from pathlib import Path

from kybstream.cli.main import COMMANDS
from tests.cli.commands import failed_clearly, lonely_configuration
from tests.cli.one_process import run_each
from tests.support.commands import kyb_stream

GROUPS = {"dlq": ["list", "show", "replay"], "links": ["add"], "embedded": ["broker", "clickhouse"], "export": ["xes", "ocel"]}

NEEDS_CONFIGURATION = [
    ["ingress"],
    ["worker"],
    ["sink"],
    ["migrate"],
    ["sql", "SELECT 1"],
    ["report"],
    ["export", "xes", "-"],
    ["export", "ocel", "-"],
    ["tail", "events"],
    ["simulate"],
    ["reconcile"],
    ["dlq", "list"],
    ["dlq", "show", "x"],
    ["dlq", "replay", "--all"],
    ["replay", "--from", "2026-03-01T09:00:00Z", "--to", "2026-03-01T10:00:00Z"],
    ["case-token", "x"],
    ["links", "add", "--case", "x", "--subject", "y"],
    ["dev"],
]


def test_every_command_explains_itself() -> None:
    """`--help` exits with 0 and says what the command does and which options it has; so does `kyb-stream --help`."""
    commands = [[name, *sub] for name in COMMANDS for sub in ([], *([each] for each in GROUPS.get(name, [])))]
    answers = run_each([[*command, "--help"] for command in commands])
    for command, done in zip(commands, answers, strict=True):
        assert (done.exit_code, done.err) == (0, ""), command
        assert done.out.startswith(f"Usage: kyb-stream {' '.join(command)} "), command
        assert len(done.out.splitlines()[2].strip()) > 30, command
        assert "--help" in done.out
    [overview] = run_each([["--help"]])
    assert all(f"\n  {name} " in overview.out for name in COMMANDS)


async def test_the_version_is_told() -> None:
    """`--version` names program and version."""
    done = await kyb_stream("--version")
    assert (done.exit_code, done.out) == (0, "kyb-stream, version 0.1.0\n")


WRONG_USAGE = {
    "No such command 'frobnicate'": ["frobnicate"],
    "No such option": ["migrate", "--wrong"],
    "Missing argument 'TOPIC'": ["tail"],
    "Missing argument 'REF...'": ["case-token"],
    "'xml' is not one of": ["sql", "--format", "xml", "SELECT 1"],
    "0 is not in the range": ["demo", "--cases", "0"],
    "Missing option '--case'": ["links", "add"],
    "Missing argument 'ID'": ["dlq", "show"],
    "has no zone; write it as 2026-": ["replay", "--from", "2026-03-01T09:00:00", "--to", "2026-03-01T10:00:00Z"],
    "'yesterday' is no time; write it as 2026-": ["dlq", "list", "--since", "yesterday"],
    "'soon' is no period; write 30d": ["report", "--since", "soon"],
    "Missing argument 'FILE'": ["export", "xes"],
    "'9' is not one of": ["dlq", "list", "--stage", "9"],
}


def test_wrong_usage_exits_with_2() -> None:
    """What was wrong is told in one sentence, below the usage line."""
    for told, done in zip(WRONG_USAGE, run_each(list(WRONG_USAGE.values())), strict=True):
        assert (done.exit_code, done.out) == (2, "")
        assert done.err.startswith("Usage: ")
        assert told in done.err
        assert "Traceback" not in done.err


async def test_a_wrong_usage_as_a_process() -> None:
    """The exit code is the process's."""
    done = await kyb_stream("frobnicate")
    assert (done.exit_code, done.out) == (2, "")
    assert "No such command 'frobnicate'" in done.err


def test_every_command_names_a_configuration_that_is_not_there(tmp_path: Path) -> None:
    """Exit code 2, before anything is started or connected to."""
    path = tmp_path / "missing.toml"
    answers = run_each([[*command, "--config", str(path)] for command in NEEDS_CONFIGURATION], cwd=tmp_path)
    assert all(failed_clearly(done, 2, f"{path}: there is no such file") for done in answers)


WRONG_CONFIGURATIONS = {
    "is not valid TOML": "[kafka\n",
    "kafka.partitons: is not a known key": "[kafka]\npartitons = 3\n",
    "kafka.partitions: should be greater than or equal to 1": "[kafka]\npartitions = 0\n",
    "clickhouse.url: must be an http:// or https:// URL": '[clickhouse]\nurl = "localhost"\n',
    "sources[0].kind: is missing": '[[sources]]\nname = "kyb"\n',
    "sources: 'kyb' names the tenant 'nobody', which is not in [[tenants]]": (
        '[[sources]]\nname = "kyb"\nkind = "kyb-service"\ntenant = "nobody"\ntoken = "0123456789012345678901"\n'
    ),
    "tenants[0].pseudonym_key: must have at least 16 bytes": (
        '[[tenants]]\nname = "acme"\npseudonym_key = "hush-hush"\ncase_token_keys = ["0123456789abcdef"]\n'
    ),
}


def test_a_wrong_configuration_is_told_by_file_and_key(tmp_path: Path) -> None:
    """Exit code 2 and one sentence: file, key, expectation; never the value, which may be a secret."""
    paths: dict[str, Path] = {}
    for number, (told, text) in enumerate(WRONG_CONFIGURATIONS.items()):
        paths[told] = tmp_path / f"{number}.toml"
        paths[told].write_text(text)
    answers = run_each([["--debug", "case-token", "x", "--config", str(path)] for path in paths.values()])
    for (told, path), done in zip(paths.items(), answers, strict=True):
        assert done.exit_code == 2
        assert f"error: {path}: " in done.err
        assert told in done.err
        assert "hush-hush" not in done.err
    answers = run_each([["case-token", "x", "--config", str(path)] for path in paths.values()])
    assert all(failed_clearly(done, 2, told) for told, done in zip(paths, answers, strict=True))


def test_a_wrong_variable_is_named_instead_of_the_file(tmp_path: Path) -> None:
    """Whoever set a value in the environment is told the variable's name."""
    command = ["case-token", "x", "--config", str(lonely_configuration(tmp_path))]
    [done] = run_each([command], env={"KYB_STREAM_KAFKA__PARTITIONS": "many"})
    assert failed_clearly(done, 2, "KYB_STREAM_KAFKA__PARTITIONS: kafka.partitions: should be a valid integer")


def test_an_unknown_topic_is_refused_with_those_there_are(tmp_path: Path) -> None:
    """Before Kafka is asked."""
    [done] = run_each([["tail", "evnts", "--config", str(lonely_configuration(tmp_path))]])
    assert failed_clearly(done, 2, "there is no topic evnts")
    topics = "webhooks.raw, links, deliveries, events, case-events, cases, dead-letters, rejections, replays"
    assert f"hint: One of: {topics}\n" in done.err


def test_a_link_needs_a_subject_in_one_form(tmp_path: Path) -> None:
    """Neither and both are refused."""
    command = ["links", "add", "--case", "x", "--config", str(lonely_configuration(tmp_path))]
    neither, both = run_each([command, [*command, "--subject", "v1.x", "--user-no", "y"]])
    assert failed_clearly(neither, 2, "give either --subject or --user-no")
    assert failed_clearly(both, 2, "give either --subject or --user-no")


def test_a_replay_is_of_something(tmp_path: Path) -> None:
    """IDs or all, a range that begins before it ends, and somebody who does it; told before Kafka is asked."""
    config = ["--config", str(lonely_configuration(tmp_path))]
    times = ["--from", "2026-03-01T10:00:00+01:00", "--to", "2026-03-01T09:00:00Z"]
    nothing, both, filtered, backwards, nobody = run_each(
        [
            ["dlq", "replay", *config],
            ["dlq", "replay", "--all", "some-id", *config],
            ["dlq", "replay", "some-id", "--reason", "not_json", *config],
            ["replay", *times, *config],
            ["dlq", "replay", "some-id", "--by", " ", *config],
        ]
    )
    assert failed_clearly(nothing, 2, "give either IDs or --all")
    assert failed_clearly(both, 2, "give either IDs or --all")
    assert failed_clearly(filtered, 2, "filters and --again are for --all")
    assert failed_clearly(backwards, 2, "--from must be before --to")
    assert failed_clearly(nobody, 2, "--by takes a name")


def test_case_tokens_are_made_for_references_that_fit_a_url_only(tmp_path: Path) -> None:
    """Others are refused, with what to do instead."""
    config = ["--config", str(lonely_configuration(tmp_path))]
    slash, too_long = run_each([["case-token", "a/b", *config], ["case-token", "x" * 39, *config]])
    assert failed_clearly(slash, 2, "only letters, digits")
    assert failed_clearly(too_long, 2, "has 39 characters; a case token holds at most 38")
    assert "hint: Register the link with `kyb-stream links add` instead.\n" in too_long.err
