"""Reading the configuration: a TOML file, then the environment over it, then one check of the whole."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from kybstream.errors import ConfigurationError
from kybstream.settings.model import Settings

ENV_PREFIX = "KYB_STREAM_"
CONFIG_VARIABLE = "KYB_STREAM_CONFIG"
"""Names the configuration file where `--config` is not given."""

DEFAULT_FILE = "kyb-stream.toml"
_DELIMITER = "__"


def load_settings(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The checked configuration.

    Args:
        path: The TOML file; else the one that KYB_STREAM_CONFIG names; else `kyb-stream.toml` in the current folder if it
            is there; else defaults and environment alone.
        environ: The environment; `os.environ` when not given.

    Raises:
        ConfigurationError: A file that cannot be read, an unknown key or a bad value; names file (or variable), key and
            what is expected.
    """
    environment = os.environ if environ is None else environ
    file = _find(path, environment)
    values = _read_toml(file) if file else {}
    origins: dict[tuple[str, ...], str] = {}
    for name in sorted(environment):
        if name.startswith(ENV_PREFIX) and name != CONFIG_VARIABLE:
            _overlay(values, name, environment[name], origins)
    try:
        return _checked(values)
    except ValidationError as error:
        raise ConfigurationError(
            _sentence(error.errors(include_input=False, include_url=False)[0], file, origins),
            hint="docs/reference/settings.md lists every key.",
        ) from None


def _checked(values: dict[str, Any]) -> Settings:
    """Runs the values through pydantic-settings, with our merged dictionary as its only source."""

    class Loaded(Settings, BaseSettings):
        model_config = SettingsConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            del settings_cls, env_settings, dotenv_settings, file_secret_settings
            return (init_settings,)

    return Loaded(**values)


def _find(path: Path | None, environment: Mapping[str, str]) -> Path | None:
    if path is not None:
        return path
    if environment.get(CONFIG_VARIABLE):
        return Path(environment[CONFIG_VARIABLE])
    default = Path(DEFAULT_FILE)
    return default if default.is_file() else None


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            return tomllib.load(stream)
    except FileNotFoundError:
        raise ConfigurationError(
            f"{file}: there is no such file", hint="kyb-stream.example.toml is one to start from."
        ) from None
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file}: is not valid TOML: {error}") from None


def _overlay(values: dict[str, Any], name: str, text: str, origins: dict[tuple[str, ...], str]) -> None:
    """Sets one value from the environment: `KYB_STREAM_KAFKA__PARTITIONS`, `KYB_STREAM_SOURCES__0__TOKEN`."""
    path = [part.lower() for part in name.removeprefix(ENV_PREFIX).split(_DELIMITER)]
    node: Any = values
    for depth, part in enumerate(path[:-1]):
        if isinstance(node, list):
            node = _element(node, part, name)
        elif isinstance(node, dict):
            node = node.setdefault(part, [] if path[depth + 1].isdigit() else {})
        else:
            raise ConfigurationError(f"{name}: {'.'.join(path[:depth])} is a single value and has no keys")
    value = _parse(text)
    if isinstance(node, list):
        if not path[-1].isdigit() or int(path[-1]) > len(node):
            raise ConfigurationError(f"{name}: expected an index from 0 to {len(node)}")
        node[int(path[-1]) : int(path[-1]) + 1] = [value]
    elif isinstance(node, dict):
        node[path[-1]] = value
    else:
        raise ConfigurationError(f"{name}: {'.'.join(path[:-1])} is a single value and has no keys")
    origins[tuple(path)] = name


def _element(node: list[Any], part: str, name: str) -> Any:
    if not part.isdigit() or int(part) > len(node):
        raise ConfigurationError(f"{name}: expected an index from 0 to {len(node)} in place of {part!r}")
    if int(part) == len(node):
        node.append({})
    return node[int(part)]


def _parse(text: str) -> Any:
    """Lists and tables are given as JSON; everything else as plain text, which pydantic converts."""
    if text[:1] in {"[", "{"}:
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError:
            return text
    return text


def _sentence(error: ErrorDetails, file: Path | None, origins: Mapping[tuple[str, ...], str]) -> str:
    location = tuple(str(part) for part in error["loc"])
    key = ".".join(f"[{part}]" if part.isdigit() else part for part in location).replace(".[", "[")
    # A variable may have given the value itself, or a list or table that it is in.
    given = next((location[:end] for end in range(len(location), 0, -1) if location[:end] in origins), None)
    where = origins[given] if given else (str(file) if file else "the configuration")
    match error["type"]:
        case "extra_forbidden":
            expectation = "is not a known key"
        case "missing":
            expectation = "is missing"
        case "value_error":
            expectation = str(error["msg"]).removeprefix("Value error, ")
        case "string_pattern_mismatch":
            expectation = f"must match {error['ctx']['pattern']}"
        case _:
            expectation = str(error["msg"]).removeprefix("Input ")
    return f"{where}: {key}: {expectation}" if key else f"{where}: {expectation}"


def render_toml(values: Mapping[str, Any]) -> str:
    """A small TOML writer for configurations that this application makes itself (`dev`, `demo`).

    Sections become tables, lists of mappings arrays of tables, also inside a section; values are text, numbers, booleans or
    lists of these.
    """
    lines: list[str] = []
    for section, content in values.items():
        if isinstance(content, Mapping):
            nested = {key: value for key, value in content.items() if _is_tables(value)}
            lines += [f"[{section}]", *_pairs({key: value for key, value in content.items() if key not in nested}), ""]
            for key, items in nested.items():
                lines += _array_of_tables(f"{section}.{key}", items)
        else:
            lines += _array_of_tables(section, content)
    return "\n".join(lines)


def _is_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)


def _array_of_tables(name: str, items: Iterable[Mapping[str, Any]]) -> list[str]:
    return [line for item in items for line in (f"[[{name}]]", *_pairs(item), "")]


def _pairs(content: Mapping[str, Any]) -> list[str]:
    # A JSON string, number, boolean or list of these is the same text in TOML.
    # But for one character: JSON lets DEL stand as it is.
    return [f"{key} = {msgspec.json.encode(value).decode()}".replace("\x7f", "\\u007F") for key, value in content.items()]
