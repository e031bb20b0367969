"""Content codings: what is undone, what is kept, and what it may cost."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import Callable
from functools import partial

import brotli
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from ingress.headers import content_encoding
from schemas.providers.codings import MAX_CODINGS, TooLargeError, codings, undo

MIB = 1024 * 1024


def raw_deflate(body: bytes) -> bytes:
    """Deflate without zlib's header, as some senders have it."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    " GZip ": gzip.compress,
    "deflate": zlib.compress,
    "Deflate": raw_deflate,
    "br": partial(brotli.compress, quality=5),
    "zstd": zstd.compress,
    "identity": bytes,
    "": bytes,
}


@given(body=st.binary(max_size=5000), names=st.lists(st.sampled_from(sorted(CODINGS)), max_size=MAX_CODINGS))
def test_any_codings_are_undone_in_their_order(body: bytes, names: list[str]) -> None:
    """One or several, in any spelling; `identity` and empty ones are nothing."""
    sent = body
    largest = len(body)
    for name in names:
        sent = CODINGS[name](sent)
        largest = max(largest, len(sent))
    assert undo(sent, ",".join(names), max_bytes=largest) == body
    if body and len(sent) < len(body):
        with pytest.raises(TooLargeError):
            undo(sent, ",".join(names), max_bytes=len(body) - 1)


@given(body=st.binary(max_size=5000), parts=st.integers(min_value=1, max_value=5))
def test_several_members_are_one_body(body: bytes, parts: int) -> None:
    """As `cat a.gz b.gz` makes them."""
    step = len(body) // parts + 1
    pieces = [body[start : start + step] for start in range(0, max(len(body), 1), step)]
    for name, pack in (("gzip", gzip.compress), ("zstd", zstd.compress)):
        assert undo(b"".join(map(pack, pieces)), name, max_bytes=len(body)) == body


@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd", "compress", "aes128gcm", "gzip, x", "x, gzip", "\x00"])
@given(junk=st.binary(max_size=500))
def test_what_cannot_be_undone_is_said_so(name: str, junk: bytes) -> None:
    """Any bytes under any coding are bytes or nothing: never an exception but the cap's."""
    try:
        found = undo(junk, name, max_bytes=100)
    except TooLargeError:
        return
    assert found is None or name in {"gzip", "deflate", "br", "zstd"}


@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd"])
def test_a_body_that_is_cut_or_has_something_behind_it_is_broken(name: str) -> None:
    """Half a body is no body."""
    sent = CODINGS[name](b'{"a": "text"}' * 50)
    assert undo(sent[:-1], name, max_bytes=MIB) is None
    assert undo(sent + b"junk", name, max_bytes=MIB) is None


@pytest.mark.parametrize("codings", ["gzip", "deflate", "br", "zstd", "gzip, gzip", "br, gzip", "zstd, br", "gzip, zstd, br"])
def test_a_bomb_is_not_unpacked(codings: str) -> None:
    """100 MiB of zeros under a cap of 1 MiB cost a few MiB of memory, however they are packed."""
    bomb = bytes(100 * MIB)
    for name in codings.split(", "):
        bomb = CODINGS[name](bomb)
    assert len(bomb) < MIB
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError):
            undo(bomb, codings, max_bytes=MIB)
        assert tracemalloc.get_traced_memory()[1] < 8 * MIB
    finally:
        tracemalloc.stop()


def test_thousands_of_members_and_codings_are_not_followed() -> None:
    """Each member costs a copy of the rest, each coding a pass over the body."""
    assert undo(gzip.compress(b"") * 40_000, "gzip", max_bytes=MIB) is None
    assert undo(zstd.compress(b"") * 40_000, "zstd", max_bytes=MIB) is None
    sent = b"{}"
    for _ in range(MAX_CODINGS + 1):
        sent = gzip.compress(sent)
    assert undo(sent, "identity, " + ", ".join(["gzip"] * (MAX_CODINGS + 1)), max_bytes=MIB) is None


@given(
    lines=st.lists(
        st.lists(st.sampled_from(["gzip", "identity", "", " br ", "x" * 300, "IDENTITY", "\udcff"]), min_size=1).map(",".join)
    )
)
def test_the_codings_of_a_record_are_whole_names_and_undone_alike(lines: list[str]) -> None:
    """What is stored is short, of no half name, and can be undone if and only if what was sent can."""
    told = content_encoding(CIMultiDict([("Content-Encoding", line) for line in lines]))
    sent = codings(",".join(lines))
    kept = codings(told or "")
    assert kept == [name.replace("\udcff", "?") if len(name) < 300 else "(long name)" for name in sent[: MAX_CODINGS + 1]]
    assert len(told or "") < 255
    assert told != ""
    body = b'{"a":1}'
    if set(sent) <= {"gzip", "br"} and len(sent) <= MAX_CODINGS:
        for name in sent:
            body = CODINGS[name](body)
    assert undo(body, told or "", max_bytes=1000) == undo(body, ",".join(lines), max_bytes=1000)
