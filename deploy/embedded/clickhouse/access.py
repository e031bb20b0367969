"""Who may ask: nobody through a web page, and only with the password where one is set."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, urlsplit

import aiohttp

from deploy.embedded.clickhouse.exceptions import RequestRefusedError

DEFAULT_USER: Final = "default"
_LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
# What a browser says of a request that a person made by hand, or that a page of this server's own made.
_NO_FOREIGN_PAGE: Final = frozenset({"none", "same-origin"})


@dataclass(frozen=True, slots=True)
class Credentials:
    """The one user; an empty password lets everybody in who can connect, as ClickHouse does."""

    user: str = DEFAULT_USER
    password: str = field(default="", repr=False)


def comes_from_a_page(headers: Mapping[str, str], port: int) -> bool:
    """Whether a web page of another origin may have sent this.

    Browsers say where a request comes from in Sec-Fetch-Site, also where they send no Origin, as for an image. A name that
    was rebound to 127.0.0.1 shows in Host.

    Args:
        headers: Case-insensitive.
        port: That the server listens on.
    """
    try:
        host = urlsplit(f"//{headers.get('Host', '')}")
        foreign_name = host.hostname not in _LOOPBACK_NAMES or host.port not in (None, port)
    except ValueError:
        return True
    origin = headers.get("Origin")
    foreign_origin = origin is not None and origin.lower() != f"http://{host.netloc.lower()}"
    return foreign_name or foreign_origin or headers.get("Sec-Fetch-Site", "none") not in _NO_FOREIGN_PAGE


def require_password(wanted: Credentials, target: str, headers: Mapping[str, str]) -> None:
    """Let a request through that names user and password in one of ClickHouse's three ways.

    Args:
        wanted: What it has to name.
        target: The request target as sent.
        headers: Case-insensitive.

    Raises:
        RequestRefusedError: Code 516, as ClickHouse has it; nothing of what was given is in it but the user's name.
    """
    if not wanted.password:
        return
    user, password = _given(target, headers)
    right_user = hmac.compare_digest(_bytes(user), _bytes(wanted.user))
    if not (hmac.compare_digest(_bytes(password), _bytes(wanted.password)) and right_user):
        sentence = f"{user}: Authentication failed: password is incorrect, or there is no user with such name."
        raise RequestRefusedError(516, "AUTHENTICATION_FAILED", sentence)


def _given(target: str, headers: Mapping[str, str]) -> tuple[str, str]:
    """User and password of a request: ClickHouse's headers, else basic authentication, else the URL."""
    if "X-ClickHouse-User" in headers or "X-ClickHouse-Key" in headers:
        return headers.get("X-ClickHouse-User", DEFAULT_USER), headers.get("X-ClickHouse-Key", "")
    if "Authorization" in headers:
        try:
            given = aiohttp.BasicAuth.decode(headers["Authorization"], encoding="utf-8")
        except ValueError:
            sentence = "Invalid authentication: it is not a Basic HTTP authentication."
            raise RequestRefusedError(516, "AUTHENTICATION_FAILED", sentence) from None
        return given.login, given.password
    parameters = dict(parse_qsl(target.partition("?")[2], keep_blank_values=True, errors="surrogateescape"))
    return parameters.get("user") or DEFAULT_USER, parameters.get("password", "")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
