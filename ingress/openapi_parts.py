"""What the OpenAPI document refers to: schemas, headers and path parameters."""

from __future__ import annotations

from typing import TypeAlias

from ingress import link_requests
from ingress.link_requests import FIELDS
from schemas.providers.body import Json

Object: TypeAlias = dict[str, Json]


def path_parameter(name: str, description: str) -> Object:
    """A part of a path. Its form is not told: a wrong one is answered like an unknown one."""
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": description,
        "schema": {"type": "string", "minLength": 1},
    }


def _header(description: str, schema: Object) -> Object:
    return {"description": description, "required": True, "schema": schema}


_TEXT: Object = {"type": "string"}

HEADERS: dict[str, Object] = {
    "X-Delivery-Id": _header(
        "The delivery's id, a UUID of version 7: with it the delivery is found in topics and tables.",
        {"type": "string", "format": "uuid"},
    ),
    "Retry-After": _header("Seconds after which to send it again.", {"type": "integer", "minimum": 1}),
    "Allow": _header("The methods of this address.", _TEXT),
    "WWW-Authenticate": _header("How to authenticate.", _TEXT),
    "Accept": _header("The media type that is taken.", _TEXT),
    "Accept-Encoding": _header("The content coding that is taken.", _TEXT),
}
"""Headers of answers, beside those that every answer has. Each is there whenever the document says so."""

_PROBLEM_FIELDS: Object = {
    "type": {"type": "string", "format": "uri", "description": "Which kind of problem; does not change."},
    "title": {"type": "string", "description": "The same for people; may be worded better one day."},
    "status": {"type": "integer"},
}

_PROBLEM: Object = {
    "type": "object",
    "required": ["type", "title", "status"],
    "properties": _PROBLEM_FIELDS | {"reason": {"type": "string", "description": "Only of /readyz: what is waited for."}},
}

_FIELD_ERROR: Object = {
    "type": "object",
    "required": ["pointer", "detail"],
    "properties": {
        "pointer": {"type": "string", "description": "The field, as a JSON pointer; `#` is the body as a whole."},
        "detail": {"type": "string", "description": "What was expected; never what was sent."},
    },
}

_INVALID_LINK: Object = {
    "type": "object",
    "required": ["type", "title", "status", "errors"],
    "properties": _PROBLEM_FIELDS | {"errors": {"type": "array", "minItems": 1, "items": _FIELD_ERROR}},
}

_LINK: Object = {
    "type": "object",
    "additionalProperties": False,
    "required": ["link_id", "tenant", "case_id", "subject", "expected_subjects", "registered_at"],
    "properties": {
        "link_id": {"type": "string", "format": "uuid"},
        "tenant": {"type": "string", "description": "The tenant whose token it was."},
        "case_id": FIELDS[link_requests.CASE_ID].schema(),
        "subject": FIELDS[link_requests.SUBJECT].schema(),
        "expected_subjects": {"anyOf": [FIELDS[link_requests.EXPECTED_SUBJECTS].schema(), {"type": "null"}]},
        "registered_at": {"type": "string", "format": "date-time"},
    },
}


def _form(title: str, *person: str) -> Object:
    """One way to say who is meant; the first of the fields is required."""
    fields = (link_requests.CASE_ID, *person, link_requests.EXPECTED_SUBJECTS)
    return {
        "type": "object",
        "title": title,
        "additionalProperties": False,
        "required": [link_requests.CASE_ID, person[0]],
        "properties": {name: FIELDS[name].schema() for name in fields},
    }


_LINK_REQUEST: Object = {
    "oneOf": [
        _form("By pseudonym", link_requests.SUBJECT),
        _form("By the provider's number", link_requests.USER_NO, link_requests.MERCHANT_NO, link_requests.SUB_MERCHANT_NO),
    ]
}

SCHEMAS: dict[str, Object] = {
    "Problem": _PROBLEM,
    "InvalidLink": _INVALID_LINK,
    "Link": _LINK,
    "LinkRequest": _LINK_REQUEST,
}
