from __future__ import annotations

from bench.worst_body import SIZE, seconds_of, shapes


def test_the_shapes_are_bodies_of_a_mebibyte_that_reach_a_case() -> None:
    """Some hundreds of shapes, none larger than the ingress takes; what once took seconds does not."""
    found = list(shapes())
    assert len(found) > 500
    assert {len(body) <= SIZE for _, _, body in found} == {True}
    assert min(len(body) for _, _, body in found) > SIZE // 2
    slow = [(kind, shape, body) for kind, shape, body in found if shape in {"other list of 1.5e300", "other list of []"}]
    assert max(seconds_of(kind, body) for kind, _, body in slow) < 0.5
