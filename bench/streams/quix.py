"""The same deduplication in quixstreams; runs in an environment of its own, so it imports nothing of ours.

`python quix.py BOOTSTRAP GROUP SOURCE TARGET FOLDER`
"""

from __future__ import annotations

import sys
from typing import Any

import orjson  # type: ignore[import-not-found]
from quixstreams import Application, State  # type: ignore[import-not-found]


def main(bootstrap: str, group: str, source: str, target: str, folder: str) -> None:
    """Forwards the first record of each id until SIGTERM: at least once, state in RocksDB with a changelog."""
    app = Application(
        broker_address=bootstrap,
        consumer_group=group,
        auto_offset_reset="earliest",
        state_dir=folder,
        processing_guarantee="at-least-once",
        commit_interval=1.0,
        loglevel="WARNING",
    )

    def is_new(value: bytes, state: State) -> bool:
        # State is by the record's key, and so is the id of a record here; the value is read all the same, as by the others.
        seen = orjson.loads(value)["id"]
        if state.exists(seen):
            return False
        state.set(seen, 1)
        return True

    frame: Any = app.dataframe(app.topic(source, value_deserializer="bytes"))
    frame = frame.filter(is_new, stateful=True)
    frame.to_topic(app.topic(target, value_serializer="bytes"))
    app.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
