"""An upgrade of Faust, mode or aiokafka that moves what we rest on fails here, by name."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from importlib.metadata import version
from typing import Any

import pytest

from streams.batching.changelog import changelog_topic
from streams.batching.internals import ATTRIBUTES, METHODS, TESTED_WITH, Attribute, Method


def find(where: str) -> Any:
    """Return what `module:Qualified.name` names, without binding it."""
    module, _, names = where.partition(":")
    found: Any = importlib.import_module(module)
    for name in names.split("."):
        found = inspect.getattr_static(found, name)
    return getattr(found, "fun", found)  # mode wraps a service's tasks


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.where)
def test_method_is_as_we_know_it(method: Method) -> None:
    """It exists, takes the parameters we give or are given, and where it matters its source is the one we read."""
    function = find(method.where)
    parameters = [name for name in inspect.signature(function).parameters if name != "self"]
    assert ", ".join(parameters) == method.parameters, method.why
    if method.source:
        digest = hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:12]
        assert digest == method.source, f"{method.where} changed ({method.why}): read it, then renew the digest"


@pytest.mark.parametrize("attribute", ATTRIBUTES, ids=lambda attribute: attribute.name)
def test_attribute_is_declared(attribute: Attribute) -> None:
    """The class still declares it."""
    assert attribute.name in find(attribute.where).__annotations__, attribute.why


@pytest.mark.parametrize("package", TESTED_WITH)
def test_the_tested_version_is_installed(package: str) -> None:
    """The kill tests were run with exactly this version."""
    assert version(package) == TESTED_WITH[package]


def test_changelog_names_are_fausts(tmp_path: Any) -> None:
    """`migrate` creates the topic that a worker will write to."""
    from streams.batching import BatchApp  # noqa: PLC0415 - starts no app for the tests above

    app = BatchApp("some-app", broker="127.0.0.1:1", datadir=tmp_path, partitions=3)
    table = app.batch_table("cases")
    assert table.changelog == changelog_topic("some-app", "cases", 3)
    assert table.changelog_topic_name == table.changelog.name
