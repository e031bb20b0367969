"""What all tenants share, and how much of it one of them may take."""

from __future__ import annotations

from dataclasses import dataclass


class BusyError(Exception):
    """Requests under way hold as much as they may: those of this tenant, or all together."""


@dataclass(slots=True)
class Shares:
    """Something of which the server holds a limited amount, over all requests: bytes of bodies, or requests.

    A tenant may hold as much as it leaves free for the others: the first gets half of the limit, the next half of what is
    left, and two that go on for long a third each. So there is room for one more tenant, whatever the others do, and nobody
    has to configure shares.

    Attributes:
        limit: What may be held at most.
        total: What is held.
    """

    limit: int
    total: int = 0

    def share(self, at_least: int) -> Share:
        """The share of a tenant, which may hold `at_least` so much even when less than that is left for others."""
        return Share(self, at_least)


@dataclass(slots=True)
class Share:
    """What one tenant holds.

    Attributes:
        shares: What it is a share of.
        at_least: See `Shares.share`.
        held: How much the tenant holds.
    """

    shares: Shares
    at_least: int
    held: int = 0

    def has_room(self, size: int) -> bool:
        """Whether the tenant may hold so much more."""
        free = self.shares.limit - self.shares.total - size
        held = self.held + size
        return free >= 0 and (held <= free or held <= self.at_least)

    def add(self, size: int) -> None:
        """Counts in, or out when negative.

        Raises:
            BusyError: There is no room; nothing is counted.
        """
        if size > 0 and not self.has_room(size):
            raise BusyError
        self.held += size
        self.shares.total += size
