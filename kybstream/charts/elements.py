"""Elements of HTML and SVG. What is put into them is escaped when they are written: nothing here joins markup as text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.etree.ElementTree import Element, tostring

Content = Element | str
Attributes = Mapping[str, str | float]

# Neither HTML nor a reader has a use for control characters; those that direct text would let a name rewrite its neighbours.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def element(tag: str, attributes: Attributes | None = None, *content: Content) -> Element:
    """An element with its content in order. Numbers are written with two decimals at most."""
    made = Element(tag, {name: _written(value) for name, value in (attributes or {}).items()})
    for each in content:
        if isinstance(each, Element):
            made.append(each)
        elif len(made):
            made[-1].tail = (made[-1].tail or "") + printable(each)
        else:
            made.text = (made.text or "") + printable(each)
    return made


def written(root: Element) -> str:
    """The element as HTML."""
    return tostring(root, encoding="unicode", method="html")


def printable(text: str) -> str:
    """The text without characters that are not shown, or that change how other text is shown."""
    return _UNPRINTABLE.sub(_REPLACEMENT, text)


def shortened(text: str, longest: int) -> str:
    """The text, or its beginning and an ellipsis."""
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def _written(value: str | float) -> str:
    return printable(value) if isinstance(value, str) else f"{value:.2f}".removesuffix("0").removesuffix(".0")
