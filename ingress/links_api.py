"""`POST /api/v1/links`: an integrator says which case a KYC subject belongs to."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import msgspec
import structlog
from aiohttp import web
from aiohttp.http import HttpProcessingError, HttpVersion11

from ingress import problems
from ingress.bodies import SlowBodyError, read_body
from ingress.connection import KafkaConnection, RefusedBySizeError
from ingress.link_requests import InvalidLinkError, NotJsonError, read_link_request
from ingress.metrics import IngressMetrics
from ingress.problems import SERVER, Problem
from ingress.shares import BusyError, Share, Shares
from kybstream.errors import ConfigurationError, UnavailableError
from kybstream.privacy import Pseudonymiser
from kybstream.settings import Settings, TenantSettings
from schemas.cloudevents import cloud_event_headers
from schemas.codec import encode
from schemas.links import make_link
from schemas.providers.codings import TooLargeError
from schemas.records import Link
from schemas.topics import LINKS, entity_key

PATH = "/api/v1/links"
MEDIA_TYPE = "application/json"

MAX_BODY_BYTES = 64 * 1024
"""A registration has less than 2 KiB."""

MAX_BYTES_IN_FLIGHT = 64 * MAX_BODY_BYTES
"""Bodies of registrations held at one time; beyond it 503. Apart from the webhooks' bound: neither takes the other's
room. Of several tenants, one may hold as much as it leaves free."""

REGISTERED = "registered"
"""The outcome that is answered with 201."""

_NOBODY = ""
"""The tenant of a request whose token is nobody's: Prometheus' way to say that there is none."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Registrar:
    """A tenant that may register links; `repr` tells its name alone."""

    name: str
    token_digest: bytes = field(repr=False)
    pseudonymiser: Pseudonymiser = field(repr=False)


class _RefusedError(Exception):
    """The request is turned away with this problem; `outcome` is what it is counted as."""

    def __init__(self, problem: Problem, outcome: str) -> None:
        super().__init__(outcome)
        self.problem = problem
        self.outcome = outcome


class LinksApi:
    """Takes registrations of links from tenants that have a `links_token`.

    Args:
        settings: Whose tokens, and where links go.
        connection: Makes links durable.
        metrics: Where requests are counted.
        clock: The current time, aware UTC.

    Raises:
        ConfigurationError: Two tenants have the same token.
    """

    def __init__(
        self, settings: Settings, connection: KafkaConnection, metrics: IngressMetrics, *, clock: Callable[[], datetime]
    ) -> None:
        self._registrars = _registrars(settings)
        self._topic = settings.topic(LINKS)
        self._body_timeout = settings.ingress.body_timeout_seconds
        self._connection = connection
        self._metrics = metrics
        self._clock = clock
        bodies = Shares(MAX_BYTES_IN_FLIGHT)
        least = MAX_BODY_BYTES if len(self._registrars) > 1 else MAX_BYTES_IN_FLIGHT
        self._bodies = {registrar.name: bodies.share(least) for registrar in self._registrars}

    @staticmethod
    def topics(settings: Settings) -> tuple[str, ...]:
        """The topics that it needs: none when no tenant has a token, and so none has this address."""
        return (settings.topic(LINKS),) if any(tenant.links_token for tenant in settings.tenants) else ()

    @property
    def enabled(self) -> bool:
        """Whether any tenant has a token. Without one there is nothing at this address."""
        return bool(self._registrars)

    async def answer(self, request: web.BaseRequest) -> web.Response:
        """Answers any request to PATH.

        1. The token is compared with every tenant's, in constant time. It decides the tenant; nothing is read without it.
        2. Media type, then the body, under a cap and a timeout; then each field.
        3. The link is produced, and only when Kafka has acknowledged it: 201 with what was stored.
        """
        registrar = self._registrar(request)
        try:
            response, outcome = await self._register(request, registrar), REGISTERED
        except _RefusedError as refused:
            response, outcome = refused.problem.response(), refused.outcome
        except NotJsonError:
            response, outcome = problems.NOT_JSON.response(), "not_json"
        except InvalidLinkError as invalid:
            response, outcome = _invalid(invalid), "invalid"
        except BusyError:
            response, outcome = problems.BUSY.response(), "busy"
        except (ConnectionError, web.RequestPayloadError, HttpProcessingError):
            response, outcome = problems.BAD_HTTP.response(), "broken_body"
        except Exception as error:  # noqa: BLE001 - nothing was claimed to be stored; its message may hold what was sent
            self._metrics.unexpected_errors.inc()
            _log.error("link_registration_failed", error=type(error).__name__)
            response, outcome = problems.LINK_NOT_DURABLE.response(), "unexpected_error"
        self._metrics.link_registrations.labels(_NOBODY if registrar is None else registrar.name, outcome).inc()
        return response

    def _registrar(self, request: web.BaseRequest) -> _Registrar | None:
        """Whose token it is; None when it is nobody's. The time taken depends on the length of what was sent alone."""
        digest = _digest(_bearer_token(request))
        found = None
        for registrar in self._registrars:  # all of them, whichever it is
            if hmac.compare_digest(registrar.token_digest, digest):
                found = registrar
        return found

    async def _register(self, request: web.BaseRequest, registrar: _Registrar | None) -> web.Response:
        if request.method != "POST":
            raise _RefusedError(problems.LINK_POST_ONLY, "method_not_allowed")
        if registrar is None:
            raise _RefusedError(problems.UNAUTHORIZED, "unauthorized")
        if request.content_type != MEDIA_TYPE or request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise _RefusedError(problems.UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type")
        bodies = self._bodies[registrar.name]
        body = await self._read(request, bodies)
        try:
            link = self._link(registrar, body)
            await self._store(link)
        finally:
            bodies.add(-len(body))
        _log.info("link_registered", tenant=link.tenant, link_id=link.link_id)
        return web.Response(status=201, body=msgspec.json.encode(link), headers={"Content-Type": MEDIA_TYPE, "Server": SERVER})

    async def _read(self, request: web.BaseRequest, bodies: Share) -> bytes:
        if (request.content_length or 0) > MAX_BODY_BYTES:
            raise _RefusedError(problems.LINK_TOO_LARGE, "too_large")
        if request.headers.get("Expect", "").lower() == "100-continue" and request.version >= HttpVersion11:
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # else aiohttp takes it for the beginning of the answer
        try:
            return await read_body(
                request.content, max_bytes=MAX_BODY_BYTES, timeout_seconds=self._body_timeout, in_flight=bodies
            )
        except TooLargeError:
            raise _RefusedError(problems.LINK_TOO_LARGE, "too_large") from None
        except SlowBodyError:
            raise _RefusedError(problems.SLOW_BODY, "slow_body") from None

    def _link(self, registrar: _Registrar, body: bytes) -> Link:
        asked = read_link_request(body)
        return make_link(
            registrar.name,
            asked.case_id,
            asked.pseudonym(registrar.pseudonymiser),
            expected_subjects=asked.expected_subjects,
            registered_at=self._clock(),
        )

    async def _store(self, link: Link) -> None:
        key = entity_key(link.tenant, link.subject).encode()
        try:
            await self._connection.produce(self._topic, key, encode(link), cloud_event_headers(link))
        except (UnavailableError, RefusedBySizeError):
            raise _RefusedError(problems.LINK_NOT_DURABLE, "not_durable") from None


def _registrars(settings: Settings) -> tuple[_Registrar, ...]:
    found: dict[bytes, _Registrar] = {}
    for tenant in settings.tenants:
        if tenant.links_token is not None:
            digest = _digest(tenant.links_token.reveal())
            if digest in found:
                raise ConfigurationError(
                    f"tenants: {found[digest].name!r} and {tenant.name!r} have the same links_token: it must tell them apart"
                )
            found[digest] = _Registrar(tenant.name, digest, _pseudonymiser(tenant))
    return tuple(found.values())


def _pseudonymiser(tenant: TenantSettings) -> Pseudonymiser:
    return Pseudonymiser(tenant.pseudonym_key.reveal(), tenant.pseudonym_key_version)


def _bearer_token(request: web.BaseRequest) -> bytes:
    """The token that was sent; empty, which is nobody's, without exactly one of that scheme."""
    sent = request.headers.getall("Authorization", [])
    scheme, _, token = sent[0].partition(" ") if len(sent) == 1 else ("", "", "")
    return token.strip(" ").encode("utf-8", "surrogateescape") if scheme.lower() == "bearer" else b""


def _digest(token: bytes) -> bytes:
    # Digests have one length: comparing the tokens themselves would tell theirs.
    return hashlib.sha256(token).digest()


def _invalid(invalid: InvalidLinkError) -> web.Response:
    response = problems.INVALID_LINK.response()
    content = msgspec.json.decode(response.text or "{}", type=dict[str, str | int])
    errors = [{"pointer": error.pointer, "detail": error.detail} for error in invalid.errors]
    response.body = msgspec.json.encode(content | {"errors": errors})
    return response
