"""The answers that are not 200: problem details (RFC 9457), rendered once, holding nothing of the request."""

from __future__ import annotations

from http import HTTPStatus
from typing import ClassVar

import msgspec
from aiohttp import web

SERVER = "kyb-stream"
"""The `Server` header: no version."""

RETRY_AFTER_SECONDS = 10
"""What a 503 asks for: the KYC provider's own first interval."""


class Problem:
    """One kind of error answer.

    Args:
        status: The HTTP status.
        code: The last part of the problem's `type`, a URN.
        title: One sentence for people; the same for every occurrence.
        headers: Besides content type and server.
        close: Whether the connection ends with it: what is left of the request is not worth reading.
    """

    CONTENT_TYPE: ClassVar[str] = "application/problem+json"

    __slots__ = ("_body", "_close", "_headers", "code", "status")

    def __init__(
        self, status: HTTPStatus, code: str, title: str, *, headers: dict[str, str] | None = None, close: bool = False
    ) -> None:
        self.status = status
        self.code = code
        self._close = close
        self._headers = {"Content-Type": self.CONTENT_TYPE, "Server": SERVER, **(headers or {})}
        content = {"type": f"urn:kyb-stream:problem:{code}", "title": title, "status": int(status)}
        self._body = msgspec.json.encode(content)

    def raw(self) -> bytes:
        """The whole answer as bytes, for a connection that ends with it before anybody has read its request."""
        lines = [
            f"HTTP/1.1 {int(self.status)} {self.status.phrase}",
            *(f"{name}: {value}" for name, value in self._headers.items()),
        ]
        lines += [f"Content-Length: {len(self._body)}", "Connection: close", "", ""]
        return "\r\n".join(lines).encode("ascii") + self._body

    def response(self, *, retry_after_seconds: int | None = None) -> web.Response:
        """A fresh response (aiohttp's can be sent once), with a `Retry-After` of its own if one is given."""
        headers = self._headers
        if retry_after_seconds is not None:
            headers = headers | {"Retry-After": str(retry_after_seconds)}
        response = web.Response(status=self.status, body=self._body, headers=headers)
        if self._close:
            response.force_close()
        return response


_RETRY = {"Retry-After": str(RETRY_AFTER_SECONDS)}

BAD_HTTP = Problem(HTTPStatus.BAD_REQUEST, "bad-http", "The request is not valid HTTP.", close=True)
URL_TOO_LONG = Problem(HTTPStatus.REQUEST_URI_TOO_LONG, "url-too-long", "The URL is too long.", close=True)
HEADERS_TOO_LARGE = Problem(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "headers-too-large", "A header is too long, or there are too many.", close=True
)
UNAUTHENTIC = Problem(
    HTTPStatus.UNAUTHORIZED,
    "bad-signature",
    "The signature is missing or does not match.",
    headers={"WWW-Authenticate": "Webhook-Signature"},
)
NOT_FOUND = Problem(HTTPStatus.NOT_FOUND, "not-found", "There is nothing at this address.")
POST_ONLY = Problem(
    HTTPStatus.METHOD_NOT_ALLOWED, "method-not-allowed", "A webhook is sent with POST.", headers={"Allow": "POST"}
)
GET_ONLY = Problem(
    HTTPStatus.METHOD_NOT_ALLOWED, "method-not-allowed", "This address is read with GET.", headers={"Allow": "GET, HEAD"}
)
SLOW_HEAD = Problem(HTTPStatus.REQUEST_TIMEOUT, "slow-head", "The head of the request did not arrive in time.", close=True)
SLOW_BODY = Problem(HTTPStatus.REQUEST_TIMEOUT, "slow-body", "The body did not arrive in time.", close=True)
TOO_LARGE = Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", "The body is larger than this source takes.", close=True)
RATE_LIMITED = Problem(
    HTTPStatus.TOO_MANY_REQUESTS, "rate-limited", "More webhooks come than this tenant may send; send it again.", headers=_RETRY
)
NOT_DURABLE = Problem(
    HTTPStatus.SERVICE_UNAVAILABLE, "not-durable", "The webhook could not be stored; send it again.", headers=_RETRY
)
BUSY = Problem(HTTPStatus.SERVICE_UNAVAILABLE, "busy", "Too much is under way; send it again.", headers=_RETRY, close=True)

# Of the address that registers links.
UNAUTHORIZED = Problem(
    HTTPStatus.UNAUTHORIZED, "unauthorized", "The bearer token is missing or nobody's.", headers={"WWW-Authenticate": "Bearer"}
)
LINK_POST_ONLY = Problem(
    HTTPStatus.METHOD_NOT_ALLOWED, "method-not-allowed", "A link is registered with POST.", headers={"Allow": "POST"}
)
UNSUPPORTED_MEDIA_TYPE = Problem(
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "unsupported-media-type",
    "A link is sent as application/json, not compressed.",
    headers={"Accept": "application/json", "Accept-Encoding": "identity"},
)
LINK_TOO_LARGE = Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", "The body is larger than a link can be.", close=True)
NOT_JSON = Problem(HTTPStatus.BAD_REQUEST, "not-json", "The body is not JSON.")
INVALID_LINK = Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-link", "The link is not valid.")
LINK_NOT_DURABLE = Problem(
    HTTPStatus.SERVICE_UNAVAILABLE, "not-durable", "The link could not be stored; send it again.", headers=_RETRY
)
