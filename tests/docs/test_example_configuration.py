"""kyb-stream.example.toml is a configuration that can be used as it stands."""

from __future__ import annotations

import base64
import re
import tomllib

import pytest

from kybstream.errors import ConfigurationError
from kybstream.settings import EncryptionSettings, Settings, SourceSettings, TenantSettings, load_settings
from tests.docs.pages import ROOT

EXAMPLE = ROOT / "kyb-stream.example.toml"
_VARIABLE = re.compile(r"^#   ([A-Z][A-Z0-9_]+) ", re.MULTILINE)


def _value(name: str) -> str:
    return base64.b64encode(b"k" * 32).decode() if name == "KYB_BODY_KEY" else f"a-value-of-{name.lower()}"


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The variables that the file says must be set, set."""
    found = {name: _value(name) for name in _VARIABLE.findall(EXAMPLE.read_text(encoding="utf-8"))}
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    return found


def test_the_example_is_accepted_with_the_variables_it_names(variables: dict[str, str]) -> None:
    """Nothing else is needed."""
    settings = load_settings(EXAMPLE, variables)
    assert [source.token for source in settings.sources] == [_value(f"KYB_STREAM_SOURCES__{n}__TOKEN") for n in (0, 1)]


def test_each_variable_it_names_is_needed(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one of them it is refused, so that none of them can be forgotten."""
    for name in variables:
        with monkeypatch.context() as without:
            without.delenv(name)
            with pytest.raises(ConfigurationError):
                load_settings(EXAMPLE, {key: value for key, value in variables.items() if key != name})


def test_the_example_shows_the_defaults(variables: dict[str, str]) -> None:
    """What it says of the sections is the default, so that reading it is reading the defaults."""
    shown, default = load_settings(EXAMPLE, variables), Settings()
    for section in ("kafka", "clickhouse", "ingress", "worker", "sink"):
        assert getattr(shown, section) == getattr(default, section), section


def test_the_example_names_every_key() -> None:
    """Every key of every section is in it, if only as a comment."""
    text = EXAMPLE.read_text(encoding="utf-8")
    assert tomllib.loads(text)
    models = {name: field.annotation for name, field in Settings.model_fields.items()}
    models |= {"tenants": TenantSettings, "sources": SourceSettings, "encryption": EncryptionSettings}
    for section, model in models.items():
        for key in getattr(model, "model_fields", {}):
            shown = rf"^(# )?{key} = |^\[+{section}\.{key}\]"
            # A source's token comes from a variable.
            assert re.search(shown, text, re.MULTILINE) or (section, key) == ("sources", "token"), f"{section}.{key}"
