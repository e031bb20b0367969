"""`links add / list / remove` against the running stack."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ingress.link_requests import InvalidLinkError, read_link_request
from kybstream.kafka import ensure_topics
from kybstream.operations.links import LinkFilter, in_force, list_links, register_links, withdraw_link
from kybstream.operations.topic_reader import read_topic
from kybstream.settings import KafkaSettings
from schemas.codec import decode_any
from schemas.links import make_link, make_withdrawal
from schemas.records import Link, LinkWithdrawal
from schemas.topics import LINKS
from tests.cli.commands import failed_clearly, lonely_configuration
from tests.cli.one_process import run_each, run_with
from tests.end_to_end.bodies import MERCHANT, SUB_MERCHANT, case_becomes, kyb, kyc, link, new_user, send, subject_of
from tests.support.stack import RunningStack

NOW = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)


def listed(out: str) -> list[tuple[str, str]]:
    """Subject and case of each line of JSON."""
    return [(one["subject"], one["case_id"]) for one in map(json.loads, out.splitlines())]


@pytest.mark.stack
async def test_links_are_listed_and_taken_back(stack: RunningStack, case_id: str) -> None:
    """A wrong link is removed, its result leaves the case, and the right one takes it; `list` shows what is in force."""
    user, right = new_user(), f"{case_id}-right"
    subject = subject_of(user)
    await send(stack, "kyb", kyb(case_id, "service_resolved"))
    await link(stack, case_id, user, "--expected", "2")
    await send(stack, "kyc", kyc(user))
    await case_becomes(stack, case_id, match_state="matched", kyc_status="pending", expected_subjects=2)

    person = ["--tenant", "acme", "--user-no", user, "--merchant-no", MERCHANT, "--sub-merchant-no", SUB_MERCHANT]
    by_case = ["links", "list", "--case", case_id]
    table, as_csv, removed, after, again = await run_with(
        stack,
        by_case,
        [*by_case, "--format", "csv"],
        ["links", "remove", "--case", case_id, *person],
        by_case,
        ["links", "remove", "--case", case_id, *person],
    )
    assert subject in table.out
    assert table.out.endswith("1 link\n")
    [row] = csv.DictReader(as_csv.out.splitlines())
    assert (row["tenant"], row["subject"], row["case_id"], row["expected_subjects"]) == ("acme", subject, case_id, "2")
    assert (removed.exit_code, removed.err) == (0, "")
    assert removed.out.endswith(f"subject {subject} is not registered for case {case_id} any more\n")
    assert after.out.endswith("0 links\n")
    assert failed_clearly(again, 1, f"subject {subject} is not registered for case {case_id}")
    assert user not in "".join(each.out + each.err for each in (table, as_csv, removed, after, again))

    row_of_case = await case_becomes(stack, case_id, match_state="kyb_only", outcome="completed", anomalies=["link_withdrawn"])
    assert (row_of_case["subjects"], row_of_case["expected_subjects"]) == ([], None)
    await case_becomes(stack, f"kyc:{subject}", kyc_status="success", outcome="open")

    await link(stack, right, user)
    await case_becomes(stack, right, kyc_status="success", placements=["registered"])
    [everything] = await run_with(stack, ["links", "list", "--tenant", "acme", "--subject", subject, "--format", "json"])
    assert listed(everything.out) == [(subject, right)]


@pytest.mark.stack
async def test_an_ambiguous_person_is_settled_by_removing_one_link(stack: RunningStack, case_id: str) -> None:
    """Both lines are listed, one is removed, and the result goes to the case that is left, which the command names."""
    user, other = new_user(), f"{case_id}-other"
    subject = subject_of(user)
    await link(stack, case_id, user)
    await link(stack, other, user)
    await send(stack, "kyc", kyc(user))
    await case_becomes(stack, f"kyc:{subject}", match_state="ambiguous")
    of_the_person = ["links", "list", "--subject", subject, "--format", "json"]
    before, removed, after = await run_with(
        stack, of_the_person, ["links", "remove", "--tenant", "acme", "--case", other, "--subject", subject], of_the_person
    )
    assert listed(before.out) == [(subject, case_id), (subject, other)]
    assert removed.out.splitlines()[1:] == [f"it is still registered for case {case_id}"]
    assert listed(after.out) == [(subject, case_id)]
    await case_becomes(stack, case_id, kyc_status="success")


@pytest.fixture
async def kafka(noida_broker: str, topic_prefix: str) -> KafkaSettings:
    """A links topic of its own."""
    settings = KafkaSettings(bootstrap_servers=noida_broker, topic_prefix=topic_prefix, partitions=3)
    await ensure_topics(settings, {topic_prefix + LINKS: {"cleanup.policy": "compact"}})
    return settings


async def statements(kafka: KafkaSettings) -> list[tuple[str, str, str]]:
    """Kind, subject and case of all that the topic holds of one subject, in order."""
    found = [decode_any(record.value or b"") async for record in read_topic(kafka, kafka.topic_prefix + LINKS)]
    return [(type(one).__name__, one.subject, one.case_id) for one in found if isinstance(one, Link | LinkWithdrawal)]


def link_of(case_id: str, subject: str = "v1.s", *, at: datetime = NOW) -> Link:
    """A registered link."""
    return make_link("acme", case_id, subject, expected_subjects=None, registered_at=at)


async def test_what_is_still_in_force_is_written_last(kafka: KafkaSettings) -> None:
    """Compaction keeps the newest record of a subject: it must be a link that counts, as it was."""
    kept = link_of("a")
    await register_links(kafka, [kept, link_of("b")])
    done = await withdraw_link(kafka, "acme", "b", "v1.s", now=NOW + timedelta(hours=1))
    assert done is not None
    assert done.remaining == (kept,)
    assert [(kind, case) for kind, _, case in await statements(kafka)] == [
        ("Link", "a"),
        ("Link", "b"),
        ("LinkWithdrawal", "b"),
        ("Link", "a"),
    ]
    assert await list_links(kafka, LinkFilter()) == [kept]


async def test_a_link_that_is_not_listed_is_taken_back_only_on_demand(kafka: KafkaSettings) -> None:
    """A mistyped case writes nothing; `--unlisted` is for what compaction has removed."""
    await register_links(kafka, [link_of("a")])
    for case, subject in (("b", "v1.s"), ("a", "v1.t")):
        assert await withdraw_link(kafka, "acme", case, subject, now=NOW) is None
    assert len(await statements(kafka)) == 1
    assert await withdraw_link(kafka, "acme", "b", "v1.s", now=NOW, unlisted=True) is not None
    assert len(await statements(kafka)) == 3


async def test_a_withdrawal_is_never_older_than_the_link(kafka: KafkaSettings) -> None:
    """The link was registered by a clock that is an hour ahead: it is taken back all the same."""
    await register_links(kafka, [link_of("a", at=NOW + timedelta(hours=1))])
    assert await withdraw_link(kafka, "acme", "a", "v1.s", now=NOW) is not None
    assert await list_links(kafka, LinkFilter()) == []


def test_the_times_decide_what_is_in_force() -> None:
    """The newest link of each subject and case, unless a withdrawal is as new; whatever their order."""
    older, newer = link_of("a"), link_of("a", at=NOW + timedelta(hours=2))
    between = make_withdrawal("acme", "a", "v1.s", withdrawn_at=NOW + timedelta(hours=1))
    same = make_withdrawal("acme", "b", "v1.s", withdrawn_at=NOW)
    said: list[Link | LinkWithdrawal] = [between, newer, older, same, link_of("b"), link_of("c", "v1.t")]
    for order in (said, said[::-1]):
        assert in_force(order) == [newer, link_of("c", "v1.t")]
    assert in_force([older, between]) == []


REFUSED: list[dict[str, str]] = [
    {"case_id": "!abc", "user_no": "u"},
    {"case_id": "kyc:abc", "user_no": "u"},
    {"case_id": "", "user_no": "u"},
    {"case_id": " \t\n", "user_no": "u"},
    {"case_id": "!a\x1b[2Jb", "user_no": "u"},
    {"case_id": "c" * 513, "user_no": "u"},
    {"case_id": "c", "subject": "v1.abc"},
    {"case_id": "c", "subject": "not a pseudonym"},
    {"case_id": "c", "subject": ""},
    {"case_id": "c", "user_no": ""},
    {"case_id": "c", "user_no": "u" * 256},
    {"case_id": "c", "user_no": "u\tv"},
    {"case_id": "c", "user_no": "u", "merchant_no": " m"},
    {"case_id": "c", "user_no": "u", "sub_merchant_no": "m" * 256},
    {"case_id": "c", "subject": subject_of("x"), "merchant_no": "m"},
]


def test_the_command_refuses_what_the_http_api_refuses(tmp_path: Path) -> None:
    """By the same rules, before Kafka is asked; the sentence names the option, and nothing of a person."""
    options = {"case_id": "--case", **{name: f"--{name.replace('_', '-')}" for name in ("subject", "user_no", "merchant_no")}}
    options["sub_merchant_no"] = "--sub-merchant-no"
    for fields in REFUSED:
        with pytest.raises(InvalidLinkError):
            read_link_request(json.dumps(fields).encode())
    config = ["--config", str(lonely_configuration(tmp_path))]
    commands = [["links", "add", *config, *(f"{options[name]}={value}" for name, value in each.items())] for each in REFUSED]
    for fields, done in zip(REFUSED, run_each(commands), strict=True):
        assert failed_clearly(done, 2, "--"), fields
        assert "Kafka" not in done.err
        assert "\x1b" not in done.err


def test_what_cannot_be_registered_is_not_taken_back(tmp_path: Path) -> None:
    """It would be a dead letter: refused before Kafka is asked."""
    config = ["--config", str(lonely_configuration(tmp_path))]
    commands = [
        ["links", "remove", *config, "--unlisted", f"--case={case_id}", f"--subject={subject}"]
        for case_id, subject in (("c" * 513, "v1.s"), ("kyc:a", "v1.s"), (" ", "v1.s"), ("c", "s" * 513))
    ]
    for done in run_each(commands):
        assert failed_clearly(done, 2, "there can be no such link")
