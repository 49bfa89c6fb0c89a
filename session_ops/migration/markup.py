"""HTML and SVG as elements: what comes from a store is text or an attribute's value, and cannot become more."""

from __future__ import annotations

import re
from typing import Final
from xml.etree.ElementTree import Element, tostring

Child = Element | str | int | float | None

LONGEST: Final = 500
"""Characters of one text at most."""

# Control characters, what turns the direction of the text around, halves of pairs, and what is no character at all.
_UNSEEN: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\uffff]"
)


def element(tag: str, /, *children: Child, **attributes: object) -> Element:
    """An element. Of an attribute's name "_" stands for "-", and a last one is left out; None: not there."""
    made = Element(tag)
    for key, value in attributes.items():
        if value is not None:
            made.set(key.rstrip("_").replace("_", "-"), clean(value))
    for child in children:
        if isinstance(child, Element):
            made.append(child)
        elif child is not None:
            _add_text(made, clean(child))
    return made


def clean(value: object) -> str:
    """A text as a reader may see it: what cannot be seen is written out, what is too long is cut."""
    text = value if isinstance(value, str) else str(value)
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]}…"
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def page(root: Element) -> str:
    """A whole page."""
    return "<!DOCTYPE html>\n" + tostring(root, encoding="unicode", method="html") + "\n"


def _add_text(parent: Element, text: str) -> None:
    if len(parent):
        parent[-1].tail = (parent[-1].tail or "") + text
    else:
        parent.text = (parent.text or "") + text
