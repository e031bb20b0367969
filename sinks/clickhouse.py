"""How this folder reaches ClickHouse: one client, and its errors in our words.

The client is clickhouse-connect's asynchronous one, over HTTP: several inserts can be under way and be abandoned (a partition
is revoked, the process stops) without threads that nobody can cancel.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
import clickhouse_connect
from clickhouse_connect.driver.exceptions import ClickHouseError, ProgrammingError

from kybstream.errors import ConfigurationError, KybStreamError
from sinks.errors import NOT_ALLOWED, Blame, NotNowError, RefusedError, cause_of

if TYPE_CHECKING:
    from kybstream.settings import ClickHouseSettings

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 60.0
"""How long one statement may stay without an answer; an insert that takes longer is sent again with its token."""

_GATEWAY = frozenset({"429", "500", "502", "503", "504"})
_HTTP_STATUS = re.compile(r"HTTP status (\d{3})")
_AFTER = re.compile(r"\s*(\(version [^)]*(\([^)]*\))?[^)]*\))?\s*(\(for url [^)]*\))?\s*$")
_WORDS_LIMIT = 2000
_UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"

Client = Any
"""clickhouse-connect's AsyncClient; its types are not followed here."""


@asynccontextmanager
async def connected(clickhouse: ClickHouseSettings, *, answer_seconds: float = ANSWER_SECONDS) -> AsyncIterator[Client]:
    """A client, closed at the end. It has no default database: statements name theirs.

    Args:
        clickhouse: Where.
        answer_seconds: How long one statement may stay without an answer.

    Raises:
        NotNowError: ClickHouse does not answer.
        RefusedError: It refuses user or password, or shows a certificate that is not trusted.
        ConfigurationError: `clickhouse.ca_file` cannot be read.
    """
    parts = urlsplit(clickhouse.url)
    _require_readable(clickhouse.ca_file)
    secure = parts.scheme == "https"
    with in_our_words(clickhouse):
        client = await clickhouse_connect.get_async_client(
            host=parts.hostname,
            port=parts.port or (443 if secure else 80),
            interface=parts.scheme,
            proxy_path=parts.path,
            username=clickhouse.username,
            password=clickhouse.password.reveal_text(),
            ca_cert=clickhouse.ca_file,
            connect_timeout=CONNECT_SECONDS,
            send_receive_timeout=answer_seconds,
            query_retries=0,  # retrying is ours, so that it can be logged and stopped
            compress=False,
            client_name="kyb-stream",
        )
    try:
        yield client
    finally:
        await client.close()


def _require_readable(ca_file: str | None) -> None:
    if ca_file is None:
        return
    try:
        ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        why = error.strerror or type(error).__name__
        raise ConfigurationError(f"clickhouse.ca_file: {ca_file} is not a readable PEM file ({why})") from None


@contextmanager
def in_our_words(clickhouse: ClickHouseSettings) -> Iterator[None]:
    """Turns the driver's errors into ours.

    Raises:
        NotNowError: ClickHouse does not answer, or answers "not now".
        RefusedError: It refused the statement.
    """
    try:
        yield
    except (ClickHouseError, aiohttp.ClientError, OSError, TimeoutError) as error:
        raise _worded(clickhouse, error) from None


def _worded(clickhouse: ClickHouseSettings, error: BaseException) -> KybStreamError:
    text = str(error)
    code = getattr(error, "code", None)
    status = _HTTP_STATUS.search(text)
    where = f"ClickHouse at {clickhouse.url}"
    if _UNTRUSTED in text:
        what = f"{where} shows a certificate that is not trusted"
        return RefusedError(
            what, code=0, hint="Set clickhouse.ca_file to the authority that signed it; is the host's name right?"
        )
    if code is None and not status and not isinstance(error, ProgrammingError):
        return NotNowError(
            f"{where} cannot be reached ({type(error).__name__})",
            cause="NETWORK",
            hint="Check clickhouse.url, and that the server runs.",
        )
    if code is None and status and status[1] in _GATEWAY:
        return NotNowError(f"{where} cannot answer now (HTTP {status[1]})", cause=f"HTTP_{status[1]}")
    code = int(code or 0)
    cause = cause_of(code)
    if cause.blame is Blame.MOMENT:
        return NotNowError(
            f"{where} cannot answer now: {cause.meaning} ({cause.name}, code {code})",
            cause=cause.name,
            code=code,
            hint=cause.hint,
        )
    if code in NOT_ALLOWED:
        what = f"{where} refuses user {clickhouse.username!r}: {cause.meaning} ({cause.name}, code {code})"
        return RefusedError(what, code=code, hint=cause.hint)
    return RefusedError(f"ClickHouse refused: {_own_words(text)}", code=code, hint=cause.hint)


def _own_words(text: str) -> str:
    """What the server said, without what the driver put around it."""
    words = _AFTER.sub("", text.partition("server response: ")[2] or text)
    return words[:_WORDS_LIMIT].strip()


def quoted(text: str) -> str:
    """The text as a literal of ClickHouse's SQL, for statements that take no parameters."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
