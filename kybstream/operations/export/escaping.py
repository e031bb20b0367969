"""Names that stay apart when they are joined."""

from __future__ import annotations


def joined(*parts: str) -> str:
    """The parts with slashes between them. Different parts never give the same text: slashes within are written `%2F`."""
    return "/".join(part.replace("%", "%25").replace("/", "%2F") for part in parts)
