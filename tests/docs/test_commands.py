"""Every command of the documentation is run, in order, page by page, and prints what the page says."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio

from tests.docs.examples import matches, same_shape
from tests.docs.pages import ROOT, Block, all_pages, blocks, name_of
from tests.docs.terminal import Reader, keeps_running

NOT_RUN = {
    "docs/how-to/docker-compose.md": "needs Docker; tests/deploy/test_compose_processes.py runs the same as plain processes",
    "docs/how-to/grow-partitions.md": "stops a stack; tests/cli/test_repartition.py runs it on a real Kafka",
    "docs/design.md": "decisions, no instructions",
    "docs/performance.md": "its benchmarks take minutes and are run by hand",
}
"""Pages whose commands are not run here, and why. Each says so itself."""

WITH_THE_TUTORIALS_STACK = (
    "docs/how-to/connect-a-provider.md",
    "docs/how-to/detect-signature.md",
    "docs/how-to/join-kyc-to-kyb.md",
    "docs/how-to/register-links.md",
    "docs/how-to/consume-topics.md",
    "docs/how-to/account-for-deliveries.md",
    "docs/how-to/analyse-latency.md",
    "docs/how-to/report.md",
    "docs/how-to/process-mining.md",
    "docs/how-to/dead-letters.md",
    "docs/how-to/troubleshoot.md",
    "README.md",  # starts the stack with the very same lines
)
"""Pages that begin where the tutorial ends, run in this order."""

PRODUCTION = "docs/how-to/production.md"

_MAKE = re.compile(r"^make ([a-z-]+)$")
_READS_ONLY = re.compile(r"^(kyb-stream (sql|tail|reconcile|links list|dlq list|report)|curl -s http)\b")
_SETTLING_SECONDS = 30.0
_SETTLING_PAUSE_SECONDS = 0.5
_WHOLE_PAGE_SECONDS = 300  # a page is dozens of processes; alone on the machine it takes a tenth


async def follow(reader: Reader, page: str, *, stack_runs: bool = False) -> int:
    """Follows a page to the letter; returns how many blocks were run.

    Args:
        reader: Who follows it.
        page: Its path.
        stack_runs: The stack of another page runs: a block that starts it with the same lines is not needed.
    """
    reader.fresh_terminal()
    count = 0
    found = blocks(ROOT / page)
    for index, block in enumerate(found):
        if block.language == "sh" and not _is_make(block):
            example = found[index + 1] if index + 1 < len(found) and found[index + 1].language == "text" else None
            count += 1
            if stack_runs and keeps_running(block) == "dev":
                assert block.text == reader.running["dev"].block.text, f"{block.where} starts another stack"
                continue
            await _run_and_compare(reader, block, example if example and _follows(block, example) else None)
    return count


async def _run_and_compare(reader: Reader, block: Block, example: Block | None) -> None:
    printed = await reader.run(block)
    if example is None:
        return
    # The figures of the first page are of one run, with cases that were drawn.
    as_shown = same_shape if block.page == "README.md" else matches
    # A moment passes between a webhook and its row: a person looks again.
    deadline = time.monotonic() + _SETTLING_SECONDS
    while not as_shown(example.text, printed) and _only_reads(block) and time.monotonic() < deadline:
        await asyncio.sleep(_SETTLING_PAUSE_SECONDS)
        printed = await reader.run(block)
    assert as_shown(example.text, printed), f"{example.where} shows:\n{example.text}\nbut this was printed:\n{printed}"


def _only_reads(block: Block) -> bool:
    return all(_READS_ONLY.match(line) for line in block.text.strip().splitlines())


def _follows(block: Block, example: Block) -> bool:
    """Whether the example is about this block: at most two paragraphs of words are between them."""
    return example.line - (block.line + block.text.count("\n")) <= _NEAR_LINES


_NEAR_LINES = 4


def _is_make(block: Block) -> bool:
    lines = block.text.strip().splitlines()
    return bool(lines) and all(_MAKE.match(line) for line in lines)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tutorial(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Reader]:
    """A reader who has followed the tutorial to its end; its stack still runs."""
    reader = Reader(tmp_path_factory.mktemp("tutorial"))
    try:
        await follow(reader, "docs/tutorial.md")
        yield reader
    finally:
        await reader.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def production(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[asyncio.Task[int]]:
    """A reader who follows the guide to production in a clone of his own, meanwhile: both wait most of the time."""
    reader = Reader(tmp_path_factory.mktemp("production"))

    async def follow_and_close() -> int:
        try:
            return await follow(reader, PRODUCTION)
        finally:
            await reader.close()

    task = asyncio.create_task(follow_and_close())
    yield task
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.stack
@pytest.mark.timeout(_WHOLE_PAGE_SECONDS)
@pytest.mark.usefixtures("production")
@pytest.mark.asyncio(loop_scope="module")
async def test_the_tutorial_works_as_written(tutorial: Reader) -> None:
    """Followed to the letter, each of its commands succeeds and prints what the page shows."""
    assert set(tutorial.running) == {"dev"}


@pytest.mark.stack
@pytest.mark.timeout(_WHOLE_PAGE_SECONDS)
@pytest.mark.parametrize("page", WITH_THE_TUTORIALS_STACK)
@pytest.mark.asyncio(loop_scope="module")
async def test_a_page_works_where_the_tutorial_ends(tutorial: Reader, page: str) -> None:
    """Each page that needs a running stack works on the tutorial's."""
    assert await follow(tutorial, page, stack_runs=True) > 0


@pytest.mark.stack
@pytest.mark.timeout(_WHOLE_PAGE_SECONDS)
@pytest.mark.asyncio(loop_scope="module")
async def test_production_works_as_written(production: asyncio.Task[int]) -> None:
    """The components one by one, with the example configuration and secrets from the environment, in a fresh clone."""
    assert await production > 0


def test_no_command_is_left_out() -> None:
    """A page with commands is either run, or in NOT_RUN with its reason; both lists name pages that are there."""
    run = {"docs/tutorial.md", *WITH_THE_TUTORIALS_STACK, PRODUCTION}
    with_commands = {name_of(page) for page in all_pages() if any(block.language == "sh" for block in blocks(page))}
    assert with_commands <= run | NOT_RUN.keys()
    assert run <= with_commands
    assert not run & NOT_RUN.keys()


def test_blocks_say_what_they_are() -> None:
    """`sh` is run, `text` shows what it prints; the others are no commands.

    A block without a language, or of another shell language, would not be run, and nobody would know.
    """
    known = {"sh", "text", "toml", "mermaid", "json", "sql", "python", "yaml"}
    for page in all_pages():
        for block in blocks(page):
            assert block.language in known, f"{block.where}: {block.language or 'no language'}"


def test_make_targets_exist_and_are_run_by_ci() -> None:
    """What the pages call with make is a target of the Makefile, and .ci/run calls it: the tests do not call themselves."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    named = {line for block in _shell_blocks() if _is_make(block) for line in block.text.strip().splitlines()}
    assert {"make install", "make demo", "make test"} <= named
    for line in named:
        assert f"\n{line.removeprefix('make ')}:" in makefile, f"{line}: not in the Makefile"
        assert line in ci, f"{line}: .ci/run does not call it"


def _shell_blocks() -> Sequence[Block]:
    return [block for page in all_pages() for block in blocks(page) if block.language == "sh"]


def test_what_keeps_running_is_told_apart() -> None:
    """The commands that run until Ctrl-C are recognised: the tutorial starts `dev` twice, and nothing else."""
    started = [keeps_running(block) for block in blocks(ROOT / "docs" / "tutorial.md") if block.language == "sh"]
    assert [each for each in started if each] == ["dev", "dev"]
