"""The OpenAPI document: right in itself, complete, and what the server does."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from ingress import links_api, problems
from ingress.openapi import PATH, document
from ingress.problems import Problem
from tests.ingress.harness import KYB_TOKEN, Ingress
from tests.ingress.registering import TOKENS, taking_links

EXAMPLES = 20
"""Random requests per operation, beside those that schemathesis makes systematically."""

DOCUMENT: dict[str, Any] = json.loads(json.dumps(document()))

_METHODS = {"get", "head", "post"}


def _inside(node: Any) -> Iterator[dict[str, Any]]:
    """Every object of the document."""
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from _inside(value)
    elif isinstance(node, list):
        for value in node:
            yield from _inside(value)


def _operations() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Path, its item, and each of its operations."""
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            if method in _METHODS:
                yield path, item, operation


def _resolved(reference: str) -> Any:
    assert reference.startswith("#/")
    found: Any = DOCUMENT
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return found


async def test_it_is_served_as_it_is_made(ingress: Ingress) -> None:
    """GET gives the document, HEAD its headers; it needs no token and tells no source."""
    answer = await ingress.request("GET", PATH)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    assert json.loads(answer.body) == DOCUMENT
    assert (await ingress.request("HEAD", PATH)).headers["Content-Length"] == str(len(answer.body))
    assert (await ingress.post(PATH)).status == 405
    assert KYB_TOKEN.encode() not in answer.body


def test_it_is_whole() -> None:
    """References lead somewhere, path parameters are declared, operations have names of their own."""
    for node in _inside(DOCUMENT):
        if "$ref" in node:
            assert _resolved(node["$ref"])
    names = [operation["operationId"] for _, _, operation in _operations()]
    assert len(names) == len(set(names))
    for path, item, _ in _operations():
        declared = {parameter["name"] for parameter in item.get("parameters", ())}
        assert declared == {step[1:-1] for step in path.split("/") if step.startswith("{")}


def test_its_schemas_are_schemas_and_its_examples_fit() -> None:
    """Each schema is valid JSON Schema 2020-12; each example of an answer and of a field is an instance of its schema."""
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
        for field in _inside(schema):
            for example in field.get("examples", ()):
                assert Draft202012Validator(field).is_valid(example), example
    checked = 0
    for node in _inside(DOCUMENT["paths"]):
        if "examples" in node and "schema" in node:
            validator = Draft202012Validator(_resolved(node["schema"]["$ref"]))
            for example in node["examples"].values():
                validator.validate(example["value"])
                checked += 1
    assert checked > 20


def test_every_problem_is_documented() -> None:
    """Each error answer that the ingress has is an answer of some operation, with its status."""
    documented = {
        (int(status), code)
        for _, _, operation in _operations()
        for status, answer in operation["responses"].items()
        for media in answer.get("content", {}).values()
        for code in media.get("examples", {})
    }
    known = {(int(each.status), each.code) for each in vars(problems).values() if isinstance(each, Problem)}
    assert documented == known - {(int(problems.INVALID_LINK.status), problems.INVALID_LINK.code)}
    assert "422" in DOCUMENT["paths"][links_api.PATH]["post"]["responses"]


def test_only_links_ask_for_a_bearer_token() -> None:
    """The scheme is declared where it is asked for, and nowhere else."""
    secured = {path for path, _, operation in _operations() if operation.get("security")}
    assert secured == {links_api.PATH}
    assert DOCUMENT["components"]["securitySchemes"]["linksToken"]["scheme"] == "bearer"


def _need_schemathesis() -> None:
    if find_spec("schemathesis") is None:
        if os.environ.get("CI"):  # there, a contract that goes untested is a failure
            pytest.fail("schemathesis is not installed")
        pytest.skip("schemathesis is not installed")


def test_it_is_openapi_3_1() -> None:
    """The document is valid against the specification's own schema."""
    _need_schemathesis()
    schemathesis = pytest.importorskip("schemathesis")
    schemathesis.openapi.from_dict(DOCUMENT).validate()


@pytest.mark.stack
async def test_the_server_does_what_it_says(noida_broker: str, topic_prefix: str, tmp_path: Path) -> None:
    """What the document allows is taken, what it forbids is refused, every answer is of a kind and form that it describes.

    Schemathesis makes the requests, from the document alone; no answer is a server error.
    """
    _need_schemathesis()
    configuration = tmp_path / "schemathesis.toml"
    configuration.write_text(f'[parameters]\n"path.source" = "kyb"\n"path.token" = "{KYB_TOKEN}"\n', encoding="utf-8")
    async with taking_links(noida_broker, topic_prefix) as ingress:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(configuration)),
            *("run", ingress.url + PATH, "--header", f"Authorization: Bearer {TOKENS['acme']}"),
            *("--checks", "all", "--phases", "examples,coverage,fuzzing", "--max-examples", str(EXAMPLES)),
            *("--seed", "1", "--no-color"),
            cwd=tmp_path,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode == 0, output.decode()
        operations = len(list(_operations())) - 1  # it leaves out the one that it has the document from
        assert f"{operations} selected / {operations} total" in output.decode()
        # It got through: what is refused at the door proves nothing about what is behind it.
        assert await ingress.metric("kyb_ingress_requests_total", source="kyb", outcome="accepted") > EXAMPLES
        for outcome in ("registered", "invalid"):
            assert await ingress.metric("kyb_ingress_link_registrations_total", tenant="acme", outcome=outcome) > 0
        assert await ingress.metric("kyb_ingress_unexpected_errors_total") == 0
