"""Chance that is the same for every run of a seed, and that leaves nothing out."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Generic, TypeVar

T = TypeVar("T")


def seeded(seed: int, scope: str) -> Random:
    """A generator of its own for a scope: drawing more in one scope changes nothing in another."""
    return Random(f"{seed}/{scope}")  # noqa: S311 (reproducible histories, nothing secret)


class Deck(Generic[T]):
    """Cards dealt in random order and shuffled again when they are used up.

    Unlike independent draws, every card of the deck appears in any run as long as the deck: a simulation of the default size
    shows every situation, whatever its seed.

    Args:
        rng: Where the order comes from.
        cards: Each kind of card and how many of it there are.
    """

    def __init__(self, rng: Random, cards: Sequence[tuple[T, int]]) -> None:
        self._rng = rng
        self._cards = [card for card, count in cards for _ in range(count)]
        self._left: list[T] = []

    def draw(self) -> T:
        """The next card."""
        if not self._left:
            self._left = self._cards.copy()
            self._rng.shuffle(self._left)
        return self._left.pop()


def skewed_days(rng: Random, median: float, least: float, most: float) -> float:
    """A duration in days as such processes have them: lognormal, many short ones and a long tail, kept within bounds."""
    return min(max(median * rng.lognormvariate(0.0, 0.9), least), most)
