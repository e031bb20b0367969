"""The bodies of the benchmark of the pure core."""

from __future__ import annotations

from bench.worst_body import SIZE, SMALL, seconds_of, shapes, small_shapes


def test_the_shapes_are_bodies_of_a_mebibyte_that_reach_a_case() -> None:
    """Some hundreds of shapes, none larger than the ingress takes; what once took seconds does not."""
    sizes, seconds = [], []
    for kind, shape, body in shapes():
        sizes.append(len(body))
        if "type list" in shape and ("1.5e300" in shape or "[]" in shape):
            seconds.append(seconds_of(kind, body, 1))
    assert len(sizes) > 500
    assert SIZE // 2 < min(sizes) <= max(sizes) <= SIZE
    assert len(seconds) == 4
    assert max(seconds) < 0.5


def test_small_bodies_cost_milliseconds() -> None:
    """As the links API takes them, whatever their numbers, and also where an id behind them cannot be read: it was 0.6 s."""
    for kind, shape, body in small_shapes():
        assert len(body) <= SMALL
        assert min(seconds_of(kind, body, 1) for _ in range(3)) < 0.1, shape
