from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.bodies import TooLargeError, inflate

MIB = 1024 * 1024


@given(body=st.binary(max_size=5000), parts=st.integers(min_value=1, max_value=5))
def test_inflating_undoes_every_encoding(body: bytes, parts: int) -> None:
    """What gzip (in one or several members) and deflate did is undone, when it just fits the cap."""
    size = len(body)
    step = size // parts + 1
    members = b"".join(gzip.compress(body[start : start + step]) for start in range(0, max(size, 1), step))
    assert inflate(members, " GZip ", max_bytes=size) == body
    assert inflate(zlib.compress(body), "deflate", max_bytes=size) == body
    if size:
        with pytest.raises(TooLargeError):
            inflate(members, "x-gzip", max_bytes=size - 1)


@given(junk=st.binary(max_size=500), encoding=st.sampled_from(["gzip", "deflate", "br", "", None, "gzip, gzip"]))
def test_what_cannot_be_inflated_is_kept(junk: bytes, encoding: str | None) -> None:
    """Any bytes under any encoding give bytes: never an exception but the cap's."""
    try:
        inflate(junk, encoding, max_bytes=100)
    except TooLargeError:
        assert encoding in {"gzip", "deflate"}


def test_a_bomb_is_not_unpacked() -> None:
    """100 MiB of zeros under a cap of 1 MiB cost less than 4 MiB of memory."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join([packer.compress(bytes(MIB)) for _ in range(100)]) + packer.flush()
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError):
            inflate(bomb, "gzip", max_bytes=MIB)
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()


def test_thousands_of_empty_members_are_not_followed() -> None:
    """Each member costs a copy of the rest, so a body of very many is kept as it is."""
    body = gzip.compress(b"") * 40_000
    assert inflate(body, "gzip", max_bytes=MIB) == body
