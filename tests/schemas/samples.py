"""Any value of each kind of record, for Hypothesis."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import Literal, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from schemas import records
from schemas.codec import NEWEST
from schemas.records import Record

TEXTS = st.text(max_size=12)
TIMES = st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 (bounds are naive)
KINDS = tuple(NEWEST)

_PLAIN: dict[object, st.SearchStrategy[object]] = {
    str: TEXTS,
    int: st.integers(-(2**31), 2**31 - 1),
    bool: st.booleans(),
    bytes: st.binary(max_size=20),
    datetime: TIMES,
    dict[str, bytes]: st.dictionaries(TEXTS, st.binary(max_size=5), max_size=3),
}


def values(annotation: object) -> st.SearchStrategy[object]:
    """Values of a field with this annotation."""
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    if annotation is type(None):
        return st.none()
    if get_origin(annotation) is Literal:
        return st.sampled_from(get_args(annotation))
    if get_origin(annotation) is tuple:
        return st.lists(values(get_args(annotation)[0]), max_size=3).map(tuple)
    if isinstance(annotation, type) and issubclass(annotation, Record):
        return record_of(annotation)
    return st.one_of([values(choice) for choice in get_args(annotation)])


@cache
def record_of(kind: type[Record]) -> st.SearchStrategy[Record]:
    """Records of a kind, every field drawn."""
    hints = get_type_hints(kind, vars(records))
    return st.builds(kind, **{name: values(hint) for name, hint in hints.items()})


ANY_RECORD = st.one_of([record_of(kind) for kind in KINDS])
