"""From a request's path to who answers it. No router: a handful of addresses, and this is the hot path."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import unquote

import msgspec
from aiohttp import web

from ingress import links_api, openapi, problems
from ingress.links_api import LinksApi
from ingress.metrics import CONTENT_TYPE, IngressMetrics
from ingress.problems import SERVER, Problem
from ingress.publish import Publisher
from ingress.webhooks import Webhooks

_SEGMENTS = 4  # '', 'webhooks', source, token
_READING = frozenset({"GET", "HEAD"})


class Routes:
    """Answers every request, and knows how many it is about to answer.

    Attributes:
        active: Requests that are not answered yet.
        stopping: Set when the server is about to end: it is not ready, and each connection closes with its next answer.
    """

    def __init__(self, webhooks: Webhooks, links: LinksApi, publisher: Publisher, metrics: IngressMetrics) -> None:
        self._webhooks = webhooks
        self._links = links
        self._publisher = publisher
        self._metrics = metrics
        self._pages: dict[str, Callable[[], web.Response]] = {
            "/healthz": lambda: _plain(b"ok"),
            "/readyz": self._readiness,
            "/metrics": self._exposition,
            openapi.PATH: _description,
        }
        self._idle = asyncio.Event()
        self.active = 0
        self.stopping = False

    async def drain(self, seconds: float) -> int:
        """Begins to stop: waits until every request is answered, at most `seconds`; returns how many are not."""
        self.stopping = True
        if self.active:
            self._idle.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._idle.wait()
        return self.active

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer to any request."""
        self.active += 1
        try:
            response = await self._answer(request)
        finally:
            self.active -= 1
            if self.stopping and not self.active:
                self._idle.set()
        if self.stopping:
            response.force_close()
        return response

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path = _path(request)
        # A slash at the end changes nothing, anywhere: proxies and people add it.
        segments = (path.removesuffix("/")).split("/")
        if segments[:2] == ["", "webhooks"] and _SEGMENTS <= len(segments) <= _SEGMENTS + 1:
            name, token, *rest = (_decoded(segment) for segment in segments[2:])
            if request.method != "POST":
                return self._webhooks.refuse_method(name)
            return await self._webhooks.take(request, name, token, (rest[0] if rest else "") or None)
        path = "/".join(segments)
        if path == links_api.PATH and self._links.enabled:
            return await self._links.answer(request)
        page = self._pages.get(path)
        if page is None:
            return self._webhooks.refuse_path()
        if request.method not in _READING:
            return problems.GET_ONLY.response()
        return page()

    def _exposition(self) -> web.Response:
        return web.Response(body=self._metrics.render(), headers={"Content-Type": CONTENT_TYPE, "Server": SERVER})

    def _readiness(self) -> web.Response:
        reason = "stopping" if self.stopping else self._publisher.unavailable
        if reason is not None:
            return _not_ready(reason)
        degraded = self._publisher.degraded
        return _plain(b"ready" if degraded is None else f"degraded: {degraded}".encode())


def _not_ready(reason: str) -> web.Response:
    content = {"type": "urn:kyb-stream:problem:not-ready", "title": "Webhooks are refused now.", "status": 503}
    return web.Response(
        status=503,
        body=msgspec.json.encode(content | {"reason": reason}),
        headers={"Content-Type": Problem.CONTENT_TYPE, "Server": SERVER},
    )


def _description() -> web.Response:
    return web.Response(body=openapi.rendered(), headers={"Content-Type": openapi.MEDIA_TYPE, "Server": SERVER})


def _plain(text: bytes) -> web.Response:
    return web.Response(body=text, headers={"Content-Type": "text/plain; charset=utf-8", "Server": SERVER})


def _path(request: web.BaseRequest) -> str:
    target = request.raw_path
    if not target.startswith("/"):  # absolute form, as proxies may send it
        target = request.rel_url.raw_path
    return target.partition("?")[0]


def _decoded(segment: str) -> str:
    """The segment as text that can be stored: percent-decoded, and what is not UTF-8 replaced."""
    if "%" in segment:
        segment = unquote(segment, errors="replace")
    return segment if segment.isascii() else segment.encode("utf-8", "replace").decode()
