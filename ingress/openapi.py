"""The OpenAPI 3.1 document of the ingress, made of the values that the ingress works with, and served at PATH."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import version

import msgspec

from ingress import links_api, problems
from ingress.heads import MAX_HEAD_BYTES, MAX_HEADER_BYTES, MAX_HEADERS, MAX_URL_BYTES
from ingress.metrics import CONTENT_TYPE
from ingress.openapi_parts import HEADERS, SCHEMAS, Object, path_parameter
from ingress.problems import Problem

PATH = "/openapi.json"
MEDIA_TYPE = "application/json"

_PLAIN = "text/plain; charset=utf-8"

_ANY_REQUEST = (problems.BAD_HTTP, problems.SLOW_HEAD, problems.URL_TOO_LONG, problems.HEADERS_TOO_LARGE)
"""What any address may answer before it has looked at the request."""

_WEBHOOK_PROBLEMS = (
    problems.UNAUTHENTIC,
    problems.NOT_FOUND,
    problems.POST_ONLY,
    problems.SLOW_BODY,
    problems.TOO_LARGE,
    problems.RATE_LIMITED,
    problems.NOT_DURABLE,
    problems.BUSY,
)
_LINK_PROBLEMS = (
    problems.NOT_JSON,
    problems.UNAUTHORIZED,
    problems.NOT_FOUND,
    problems.LINK_POST_ONLY,
    problems.SLOW_BODY,
    problems.LINK_TOO_LARGE,
    problems.UNSUPPORTED_MEDIA_TYPE,
    problems.INVALID_LINK,
    problems.LINK_NOT_DURABLE,
    problems.BUSY,
)

_ABOUT = f"""\
Errors are problem details (RFC 9457) and hold nothing of the request. Plain HTTP/1.1; TLS is for a proxy in front. A URL may \
have {MAX_URL_BYTES} bytes, a header {MAX_HEADER_BYTES}, a request {MAX_HEADERS} headers, together {MAX_HEAD_BYTES} bytes."""

_ABOUT_WEBHOOKS = """\
What is authentic is stored, whatever is in it: a body that is not JSON is quarantined. Besides the token, a source may ask \
for a signature, in headers of the scheme that is configured for it; how large a body may be is configured, too. \
The content codings `gzip`, `deflate`, `br` and `zstd` are undone."""

_ABOUT_LINKS = f"""\
Before or after the callback. To register again is safe: the same subject and case are one statement, and a later \
`expected_subjects` replaces the earlier one. Two cases for one subject put it on neither (`ambiguous`). A body may have \
{links_api.MAX_BODY_BYTES} bytes."""


@cache
def rendered() -> bytes:
    """The document as JSON; the same for every request."""
    return msgspec.json.encode(document())


def document() -> Object:
    """The document: the same for every configuration, whose sources, tokens and limits it does not tell."""
    source = path_parameter("source", "Name of the source.")
    token = path_parameter("token", "The source's token; a secret.")
    case_token = path_parameter(
        "case_token",
        "As `kyb-stream case-token` makes it. A wrong one is noted; the delivery is taken all the same.",
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "kyb-stream ingress",
            "version": version("kyb-stream"),
            "summary": "Takes webhooks of KYB and KYC providers, and links between them.",
            "description": _ABOUT,
            "license": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
        },
        "tags": [
            {"name": "webhooks", "description": "For the providers."},
            {"name": "links", "description": "For integrators."},
            {"name": "operations", "description": "For whoever runs it; they ask for no secret."},
        ],
        "paths": {
            "/webhooks/{source}/{token}": {
                "parameters": [source, token],
                "post": _webhook("takeWebhook", "Take a webhook"),
            },
            "/webhooks/{source}/{token}/{case_token}": {
                "parameters": [source, token, case_token],
                "post": _webhook("takeWebhookOfCase", "Take a KYC callback that names its case"),
            },
            links_api.PATH: {"post": _register_link()},
            "/healthz": _page("health", "Whether the process answers", {"200": _text("It does.", "ok")}),
            "/readyz": _page(
                "readiness", "Whether webhooks are taken", {"200": _text("They are.", "ready"), "503": _not_ready()}
            ),
            "/metrics": _page("metrics", "Prometheus metrics", {"200": _text("Prometheus' text format.", media=CONTENT_TYPE)}),
            PATH: _page("openapi", "This document", {"200": _content("OpenAPI 3.1.", MEDIA_TYPE, {"type": "object"})}),
        },
        "components": {
            "schemas": {**SCHEMAS},
            "headers": {**HEADERS},
            "securitySchemes": {
                "linksToken": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The tenant's `links_token`.",
                }
            },
        },
    }


def _webhook(operation: str, summary: str) -> Object:
    stored = _text("Stored durably. No other answer means that.", "ok")
    stored["headers"] = {"X-Delivery-Id": _header("X-Delivery-Id")}
    return {
        "operationId": operation,
        "tags": ["webhooks"],
        "summary": summary,
        "description": _ABOUT_WEBHOOKS,
        "requestBody": {
            "description": "What the provider sends, of any media type.",
            "content": {"application/json": {"schema": {}}, "*/*": {"schema": {}}},
        },
        "responses": {"200": stored, **_refusals(_WEBHOOK_PROBLEMS)},
    }


def _register_link() -> Object:
    return {
        "operationId": "registerLink",
        "tags": ["links"],
        "summary": "Say which case a KYC subject belongs to",
        "description": _ABOUT_LINKS,
        "security": [{"linksToken": []}],
        "requestBody": {
            "required": True,
            "content": {links_api.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/LinkRequest"}}},
        },
        "responses": {
            "201": _content("Stored in Kafka.", links_api.MEDIA_TYPE, {"$ref": "#/components/schemas/Link"}),
            **_refusals(_LINK_PROBLEMS),
        },
    }


def _page(operation: str, summary: str, answers: Mapping[str, Object]) -> Object:
    """An address that is read, with GET or HEAD."""
    common: Object = {"tags": ["operations"], "summary": summary}
    responses: Object = {**answers, **_refusals((problems.GET_ONLY,))}
    without_bodies: Object = {status: {"description": "As of GET, without the body."} for status in responses}
    return {
        "get": {**common, "operationId": operation, "responses": responses},
        "head": {**common, "operationId": f"{operation}Head", "responses": without_bodies},
    }


def _not_ready() -> Object:
    schema: Object = {"$ref": "#/components/schemas/Problem"}
    return _content("They are refused; `reason` says what is waited for.", Problem.CONTENT_TYPE, schema)


def _refusals(specific: tuple[Problem, ...]) -> Object:
    """The error answers by status, each with all that may be its reason."""
    by_status: dict[str, list[Problem]] = {}
    for problem in (*_ANY_REQUEST, *specific):
        by_status.setdefault(str(int(problem.status)), []).append(problem)
    return {status: _refusal(alike) for status, alike in sorted(by_status.items())}


def _refusal(alike: list[Problem]) -> Object:
    """One status' answer: every problem that has it is an example; only headers that all of them have are promised."""
    responses = {problem.code: problem.response() for problem in alike}
    titles: list[str] = []
    examples: Object = {}
    for code, response in responses.items():
        content = msgspec.json.decode(response.text or "{}", type=dict[str, str | int])
        titles.append(str(content["title"]))
        examples[code] = {"value": {**content}}
    if problems.INVALID_LINK in alike:
        media: Object = {"schema": {"$ref": "#/components/schemas/InvalidLink"}}
    else:
        media = {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}
    answer: Object = {"description": " Or: ".join(titles), "content": {Problem.CONTENT_TYPE: media}}
    headers = HEADERS.keys() & set.intersection(*(set(response.headers) for response in responses.values()))
    if headers:
        answer["headers"] = {name: _header(name) for name in sorted(headers)}
    return answer


def _header(name: str) -> Object:
    return {"$ref": f"#/components/headers/{name}"}


def _text(description: str, exactly: str | None = None, *, media: str = _PLAIN) -> Object:
    schema: Object = {"type": "string"} if exactly is None else {"type": "string", "const": exactly}
    return _content(description, media, schema)


def _content(description: str, media: str, schema: Object) -> Object:
    return {"description": description, "content": {media: {"schema": schema}}}
