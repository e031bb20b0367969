"""A secret setting: given in clear, by `env:NAME` or by `file:PATH`, and never shown again."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema


class Secret:
    """Bytes that reach neither logs nor `repr`; read them with `reveal()`."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def __repr__(self) -> str:
        return "Secret('…')"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def reveal(self) -> bytes:
        """The secret's bytes (UTF-8 where it was given as text)."""
        return self._value

    def reveal_text(self) -> str:
        """The secret as text."""
        return self._value.decode()

    @classmethod
    def resolve(cls, given: str) -> Secret:
        """The secret behind a setting's value.

        Raises:
            ValueError: The variable is not set, or the file cannot be read; the message names it, never the value.
        """
        if given.startswith("env:"):
            name = given.removeprefix("env:")
            value = os.environ.get(name)
            if value is None:
                raise ValueError(f"names the environment variable {name}, which is not set")
            return cls(value.encode())
        if given.startswith("file:"):
            path = Path(given.removeprefix("file:"))
            try:
                return cls(path.read_bytes().rstrip(b"\r\n"))
            except OSError as error:
                raise ValueError(f"names the file {path}, which cannot be read ({error.strerror})") from None
        return cls(given.encode())

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: GetCoreSchemaHandler) -> CoreSchema:
        def validate(value: object) -> Secret:
            if isinstance(value, Secret):
                return value
            if not isinstance(value, str):
                # The value itself must not appear, not even when it has the wrong type.
                raise ValueError("must be text: the secret itself, env:NAME or file:PATH")  # noqa: TRY004
            return cls.resolve(value)

        return core_schema.no_info_plain_validator_function(validate)
