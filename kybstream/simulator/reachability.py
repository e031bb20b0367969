"""Telling a receiver that is down for a moment from one that is not there, or does not know us."""

from __future__ import annotations

from kybstream.errors import RunError, UnavailableError
from kybstream.settings import SourceKind
from kybstream.simulator.target import Target

PATIENCE_BEFORE_CONTACT_SECONDS = 3.0
"""How long a receiver that never answered may be out of reach; shorter, since it is most likely a wrong address."""

REFUSALS_BEFORE_CONTACT = 5
"""So many refusals of a kind that sending again cannot cure, and not one 200, mean a wrong token or secret."""

_HOPELESS: dict[int, tuple[str, str]] = {
    401: ("refuses the signature", "Check the scheme and the secret of the source."),
    403: ("refuses us", "Check the `allow` list of the source."),
    404: ("does not know the address", "Check the names and the tokens of the sources."),
    405: ("takes no POST at that address", "Check the path: /webhooks/<source>/<token>."),
}


class Reachability:
    """Watches the answers of a run and raises when going on is pointless.

    Args:
        target: Named in the errors, without its tokens.
        patience_seconds: How long a receiver that has answered before may be out of reach.
    """

    def __init__(self, target: Target, patience_seconds: float) -> None:
        self._target = target
        self._patience = patience_seconds
        self._contact_at: float | None = None
        self._trouble_since: float | None = None
        self._knows_us: set[SourceKind] = set()
        self._refusals: dict[SourceKind, int] = {}

    def answered(self, source_kind: SourceKind, status: int, now: float) -> None:
        """Notes an answer.

        Raises:
            RunError: The source refuses everything for a reason that will not pass.
        """
        self._contact_at, self._trouble_since = now, None
        if status not in _HOPELESS:
            self._knows_us.add(source_kind)
        if source_kind in self._knows_us:
            return
        self._refusals[source_kind] = self._refusals.get(source_kind, 0) + 1
        if self._refusals[source_kind] >= REFUSALS_BEFORE_CONTACT:
            what, hint = _HOPELESS[status]
            raise RunError(f"{self._target.origin(source_kind)} {what} of the {source_kind} source ({status})", hint=hint)

    def unanswered(self, source_kind: SourceKind, now: float) -> None:
        """Notes an attempt without an answer.

        Raises:
            UnavailableError: There has been none for too long.
        """
        if self._trouble_since is None:
            self._trouble_since = now
        patience = self._patience if self._contact_at is not None else min(self._patience, PATIENCE_BEFORE_CONTACT_SECONDS)
        if now - self._trouble_since >= patience:
            raise UnavailableError(
                f"no answer from {self._target.origin(source_kind)} for {now - self._trouble_since:.1f} s",
                hint="Is the ingress running, and is that its address?",
            )
