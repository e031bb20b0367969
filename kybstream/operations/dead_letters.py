"""Listing, showing and replaying dead letters, from Kafka alone: it works while ClickHouse or the sink is away."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from kybstream.encryption import body_decryptor
from kybstream.errors import BadRecordError, RunError
from kybstream.ids import new_replay_id
from kybstream.operations.dead_letter_book import DeadLetterBook, Letter, Step, by_position, next_mark
from kybstream.operations.rekeying import Rekey, clear_body, rekey_with
from kybstream.operations.resending import Resender, resending
from kybstream.operations.tail import visible
from kybstream.operations.topic_reader import ReadRecord, read_topic
from kybstream.settings import Settings
from schemas.codec import decode, decode_any
from schemas.expired import EXPIRED_UNREAD
from schemas.records import DeadLetter, Replay, WebhookDelivery
from schemas.replays import marked
from schemas.topics import CASES, DEAD_LETTERS, REPLAYS, topic_named
from sinks.dead_letters import TOO_LARGE

_BATCH = 100
"""Dead letters that are written again before it is recorded who did it."""


async def read_book(settings: Settings) -> DeadLetterBook:
    """All dead letters that the topic still has, and what was done to them.

    Raises:
        UnavailableError: Kafka cannot be reached.
        RunError: A topic is missing.
    """
    book = DeadLetterBook()
    async for record, letter in _dead_letters(settings):
        book.add_failure(record, letter)
    async for record in read_topic(settings.kafka, settings.topic(REPLAYS)):
        try:
            book.add_replay(decode(record.value or b"", Replay))
        except BadRecordError:
            continue  # the sink dead-letters it
    return book


async def find_letter(settings: Settings, dead_letter_id: str) -> tuple[Letter, DeadLetter, list[Step]]:
    """One dead letter: as it stands, whole, and its history.

    Raises:
        UnavailableError: Kafka cannot be reached.
        RunError: There is no such dead letter.
    """
    book = await read_book(settings)
    one = known(book, [dead_letter_id])[0]
    async with aclosing(_dead_letters(settings, only=by_position([one]))) as found:
        async for _, whole in found:
            return one, whole, book.history(dead_letter_id)
    raise _gone(dead_letter_id)


def known(book: DeadLetterBook, dead_letter_ids: Collection[str]) -> list[Letter]:
    """The letters of these ids.

    Raises:
        RunError: There is none of one of them.
    """
    found = {name: book.letter(name) for name in dead_letter_ids}
    for name, letter in found.items():
        if letter is None:
            raise _gone(name)
    return [letter for letter in found.values() if letter is not None]


def _gone(dead_letter_id: str) -> RunError:
    return RunError(f"there is no dead letter {dead_letter_id}", hint="`kyb-stream dlq list` shows those there are.")


def described(whole: DeadLetter) -> dict[str, Any]:
    """All fields of a dead letter but the record's value; of a delivery in it, its fields without body and token."""
    fields = visible(whole) | {"origin_headers": {name: value.decode("utf-8", "replace") for name, value in
                                                  whole.origin_headers.items()}}  # fmt: skip
    fields.pop("origin_headers_size", None)
    try:
        fields["record"] = visible(decode_any(whole.origin_value or b""))
    except BadRecordError as error:
        fields["record_error"] = error.message
    return fields


def body_of(settings: Settings, whole: DeadLetter) -> bytes:
    """The body of the delivery in a dead letter, in clear; of any other record its value, as it is.

    Raises:
        UnknownKeyError: The body is encrypted, and its key is not configured.
        UndecryptableError: It does not fit its key.
    """
    value = whole.origin_value or b""
    try:
        delivery = decode(value, WebhookDelivery)
    except BadRecordError:
        return value
    return clear_body(delivery, body_decryptor(settings.encryption))


def unreplayable(settings: Settings, one: Letter) -> str | None:
    """Why a letter's record cannot be written again; None when it can."""
    origin, prefix = one.letter.origin_topic, settings.kafka.topic_prefix
    topic = topic_named(origin, prefix) if origin.startswith(prefix) else None
    if topic is None:
        return f"{origin} is none of our topics"
    if one.letter.reason == EXPIRED_UNREAD:
        return "the records that it tells of are gone"
    if topic.suffix == CASES:
        return "an older snapshot would become the newest of its case; the next event of the case brings a new one"
    if TOO_LARGE in (one.letter.detail or ""):
        return TOO_LARGE + " where it was"
    return None


@dataclass(frozen=True)
class Resent:
    """A dead letter whose record was written again."""

    letter: Letter
    attempt: int
    rekeyed: bool


async def replay_letters(
    settings: Settings,
    letters: Collection[Letter],
    *,
    by: str,
    rekey: bool = False,
    told: Callable[[Resent], None],
) -> None:
    """Writes the records of these letters to their topics again, and records who did it.

    The order that matters: a batch of copies is acknowledged, then it is recorded, then it is told. When it ends early, what
    was not recorded is open still, and replaying it once more does no harm.

    Args:
        settings: The configuration.
        letters: Those to replay, all replayable.
        by: Who does it.
        rekey: Give each record the key that would be given now.
        told: Called with each, after it is recorded.

    Raises:
        UnavailableError: Kafka cannot be reached or does not acknowledge.
        RunError: Kafka refuses a record, or a letter has left its topic meanwhile.
        UnknownKeyError: With `rekey`, a body's key is not configured.
    """
    places = by_position(letters)
    rekeyed = rekey_with(settings) if rekey else None
    async with resending(settings.kafka) as resender:
        batch: list[tuple[Resent, Replay]] = []
        async with aclosing(_dead_letters(settings, only=places)) as found:
            async for record, whole in found:
                one = places.pop((record.partition, record.offset))
                batch.append(await _resend(resender, one, whole, by=by, rekey=rekeyed))
                if len(batch) == _BATCH:
                    await _record(resender, batch, told)
                    batch = []
        await _record(resender, batch, told)
    for one in places.values():
        raise _gone(one.dead_letter_id)


async def _resend(resender: Resender, one: Letter, whole: DeadLetter, *, by: str, rekey: Rekey | None) -> tuple[Resent, Replay]:
    if whole.origin_value is None and whole.body_size:
        raise RunError(
            f"the dead letter {whole.dead_letter_id} lacks the record's value, which was too large",
            hint="`kyb-stream replay --from … --to …` takes deliveries from the raw topic.",
        )
    mark = next_mark(one, replay_id=new_replay_id(), by=by, at=datetime.now(UTC))
    key, value = (whole.origin_key, whole.origin_value) if rekey is None else rekey(whole.origin_key, whole.origin_value)
    changed = key != whole.origin_key
    if changed and mark.home_key is None:
        mark = msgspec.structs.replace(mark, home_key=whole.origin_key or b"")
    await resender.send(whole.origin_topic, key, value, marked(whole.origin_headers.items(), mark))
    replay = Replay(
        replay_id=mark.replay_id,
        replayed_at=mark.replayed_at,
        replayed_by=by,
        kind="dead_letter",
        origin_topic=whole.origin_topic,
        tenant=whole.tenant,
        source=whole.source,
        dead_letter_id=whole.dead_letter_id,
        first_dead_letter_id=mark.first_dead_letter_id,
        delivery_id=whole.delivery_id,
        attempt=mark.attempt,
        rekeyed=changed,
        records=1,
    )
    return Resent(one, mark.attempt, changed), replay


async def _record(resender: Resender, batch: list[tuple[Resent, Replay]], told: Callable[[Resent], None]) -> None:
    await resender.flush()
    await resender.record([replay for _, replay in batch])
    for resent, _ in batch:
        told(resent)


async def _dead_letters(
    settings: Settings, *, only: Mapping[tuple[int, int], Letter] | None = None
) -> AsyncGenerator[tuple[ReadRecord, DeadLetter], None]:
    """The dead letters of the topic, or those at these places; what cannot be read is passed over, the sink tells of it."""
    left = None if only is None else set(only)
    if left is not None and not left:
        return
    async with aclosing(read_topic(settings.kafka, settings.topic(DEAD_LETTERS))) as records:
        async for record in records:
            if left is not None and (record.partition, record.offset) not in left:
                continue
            try:
                letter = decode(record.value or b"", DeadLetter)
            except BadRecordError:
                continue
            yield record, letter
            if left is not None:
                left.discard((record.partition, record.offset))
                if not left:
                    return
