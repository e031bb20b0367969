"""`python -m tests.chaos.campaign`: runs a campaign and writes what came of it into docs/reliability.md."""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
from pathlib import Path

from kybstream.telemetry import configure_logging
from tests.chaos.campaign.page import PAGE, machine, written
from tests.chaos.campaign.running import campaign


def main() -> int:
    """0: nothing was lost, doubled or misjudged; 1: something was, and the logs are kept."""
    arguments = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    arguments.add_argument("--seed", type=int, default=None, help="draws faults and load; a random one if not given")
    arguments.add_argument("--faults", type=int, default=40, help="how many faults, one after the other")
    arguments.add_argument("--rate", type=float, default=40.0, help="deliveries a second")
    arguments.add_argument("--no-page", action="store_true", help="leave docs/reliability.md as it is")
    given = arguments.parse_args()
    seed = random.SystemRandom().randrange(1_000_000) if given.seed is None else given.seed
    configure_logging(events=False)  # of the simulator and of clients here, which meet the faults
    folder = Path(tempfile.mkdtemp(prefix="kyb-stream-chaos-"))
    try:
        ended = asyncio.run(campaign(folder, seed=seed, faults=given.faults, rate=given.rate, say=_say))
    except BaseException:
        _say(f"seed {seed}: broken off; the logs are in {folder}")
        raise
    for sentence in ended.verdict.wrong:
        _say(f"WRONG: {sentence}")
    if not given.no_page:
        PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), ended, machine()), encoding="utf-8")
        _say(f"{PAGE.name} is written")
    if ended.verdict.wrong:
        _say(f"the logs are in {folder}")
        return 1
    shutil.rmtree(folder)
    _say("nothing was lost, doubled or misjudged")
    return 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
