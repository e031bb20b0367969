"""Finds records in files that SQLite cannot read any more, by the records' own marks and checksums.

Nothing of the file's structure is trusted. A record that fits into its page lies there in one piece; of a larger one the rest
lies on overflow pages, of which each begins with the number of the next (SQLite's file format, sections 1.5 and 1.6; the rule
that says how much stays on the first page is there too). Where a page exists twice, in the file and in the log, both are tried:
the checksum decides. So a record may be found that was removed already; it is sent a second time then, under the same delivery
id.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Protocol

from ingress.spool.entries import HEADER_BYTES, MAGIC, DamagedRecordError, Header, SpoolEntry, entry_of, header_at
from ingress.spool.store import PAGE_BYTES

_LOG_HEADER_BYTES = 32
_FRAME_HEADER = struct.Struct(">IIII8x")  # page number, pages after a commit (else 0), two salts; then a checksum
_FRAME_BYTES = _FRAME_HEADER.size + PAGE_BYTES
_OVERFLOW_DATA = PAGE_BYTES - 4
_MOST_LOCAL = PAGE_BYTES - 35
_LEAST_LOCAL = (PAGE_BYTES - 12) * 32 // 255 - 23


class Image(Protocol):
    """Bytes of a file: `bytes` or `mmap`."""

    def __len__(self) -> int:
        """Its size."""
        ...

    def __getitem__(self, part: slice, /) -> bytes:
        """Some of them."""
        ...

    def find(self, part: bytes, start: int, stop: int, /) -> int:
        """Where they next occur, or -1."""
        ...


class Carved:
    """What was found: iterate over `records`, then read `unreadable`.

    Args:
        database: The file's bytes.
        log: The log's bytes.
    """

    def __init__(self, database: Image, log: bytes) -> None:
        self._database = database
        self._log = log
        self._log_pages = {page: start for start, page in _frames(log)}
        self.unreadable: set[int] = set()
        """Sequence numbers of records whose mark was found and that could not be read there."""

    def records(self) -> Iterator[tuple[int, bytes, SpoolEntry]]:
        """Sequence number, record and entry of each that is whole; one may come more than once."""
        for start in range(0, len(self._database), PAGE_BYTES):
            yield from self._in_page(self._database, start)
        for start, _ in _frames(self._log):
            yield from self._in_page(self._log, start)

    def _in_page(self, image: Image, start: int) -> Iterator[tuple[int, bytes, SpoolEntry]]:
        stop = min(start + PAGE_BYTES, len(image))
        at = image.find(MAGIC, start, stop)
        while at >= 0:
            header = header_at(image[at : min(at + HEADER_BYTES, stop)])
            if header is not None:
                for record in self._candidates(image, at, stop, header):
                    try:
                        entry = entry_of(record)
                    except DamagedRecordError:
                        continue
                    yield header.sequence, record, entry
                    break
                else:
                    self.unreadable.add(header.sequence)
            at = image.find(MAGIC, at + 1, stop)

    def _candidates(self, image: Image, at: int, stop: int, header: Header) -> Iterator[bytes]:
        if at + header.record_bytes <= stop:
            yield image[at : at + header.record_bytes]
        local = local_bytes(header)
        if local < header.record_bytes and at + local + 4 <= stop:
            first = int.from_bytes(image[at + local : at + local + 4], "big")
            for log_first in (True, False):
                rest = self._overflow(first, header.record_bytes - local, log_first=log_first)
                if rest is not None:
                    yield image[at : at + local] + rest

    def _overflow(self, page: int, size: int, *, log_first: bool) -> bytes | None:
        if size > len(self._database) + len(self._log):
            return None  # a damaged length
        parts: list[bytes] = []
        while size > 0:
            content = self._page(page, log_first=log_first)
            if content is None:
                return None
            page = int.from_bytes(content[:4], "big")
            parts.append(content[4 : 4 + min(size, _OVERFLOW_DATA)])
            size -= _OVERFLOW_DATA
        return b"".join(parts)

    def _page(self, number: int, *, log_first: bool) -> bytes | None:
        in_log = self._log_pages.get(number)
        if in_log is not None and log_first:
            return self._log[in_log : in_log + PAGE_BYTES]
        start = (number - 1) * PAGE_BYTES
        if number > 0 and start + PAGE_BYTES <= len(self._database):
            return self._database[start : start + PAGE_BYTES]
        return None if in_log is None else self._log[in_log : in_log + PAGE_BYTES]


def local_bytes(header: Header) -> int:
    """How much of a record lies on its row's own page; the rest is on overflow pages."""
    # The row: length of its header, a type each for id (0), record and delivery id, then record and delivery id.
    types = 1 + _varint_bytes(12 + 2 * header.record_bytes) + _varint_bytes(13 + 2 * header.id_bytes)
    before = 1 + types
    payload = before + header.record_bytes + header.id_bytes
    if payload <= _MOST_LOCAL:
        return header.record_bytes
    local = _LEAST_LOCAL + (payload - _LEAST_LOCAL) % _OVERFLOW_DATA
    if local > _MOST_LOCAL:
        local = _LEAST_LOCAL
    return min(local - before, header.record_bytes)


def commits_after(log: bytes, frames: int) -> bool:
    """Whether a transaction was committed after the first `frames` frames of the log.

    SQLite stops reading at the first frame that is damaged. What follows it was acknowledged, and SQLite does not say
    that it is there.
    """
    return any(
        index >= frames and _FRAME_HEADER.unpack_from(log, start - _FRAME_HEADER.size)[1] > 0
        for index, (start, _) in enumerate(_frames(log))
    )


def _frames(log: bytes) -> Iterator[tuple[int, int]]:
    """Where the page of each frame starts, and its number; frames of earlier generations of the log are passed over."""
    starts = range(_LOG_HEADER_BYTES, len(log) - _FRAME_BYTES + 1, _FRAME_BYTES)
    salts = [log[start + 8 : start + 16] for start in starts]
    newest = log[16:24]
    if newest not in salts:  # the log's header is damaged; the newest generation is at the beginning
        newest = next((salt for salt in salts if salts.count(salt) > 1), newest) if len(salts) > 1 else b"".join(salts)
    for start, salt in zip(starts, salts, strict=True):
        if salt == newest:
            yield start + _FRAME_HEADER.size, _FRAME_HEADER.unpack_from(log, start)[0]


def _varint_bytes(value: int) -> int:
    return max(1, (value.bit_length() + 6) // 7)
