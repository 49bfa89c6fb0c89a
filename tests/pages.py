"""Reads a page as strictly as a test needs: every element closed, every id once, nothing fetched, nothing run."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "br", "hr", "img", "input", "link"}
KNOWN = {
    "html", "head", "meta", "title", "style", "body", "header", "nav", "main", "section", "article", "footer", "h1",
    "h2", "h3", "p", "a", "ul", "li", "dl", "dt", "dd", "div", "span", "time", "table", "caption", "thead", "tbody",
    "tr", "th", "td", "figure", "figcaption", "details", "summary", "svg", "desc", "rect", "line", "text", "polygon",
    "polyline", "circle",
}  # fmt: skip
"""What our pages are made of. Whatever else is met was put there by somebody."""


class Page(HTMLParser):
    """A page that was read; raises `AssertionError` where it is not sound."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        assert text.startswith("<!DOCTYPE html>\n<html lang=")
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == [], f"never closed: {self._open}"
        self._sound()

    @property
    def text(self) -> str:
        """What a reader sees, the style sheet left out."""
        return " ".join(" ".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of every element of this kind."""
        return [attributes for name, attributes in self.elements if name == tag]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in KNOWN, f"<{tag}> is not ours"
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> has an attribute twice"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        raise AssertionError(f"<{tag}/>: HTML does not close elements like that")

    def handle_endtag(self, tag: str) -> None:
        assert self._open[-1:] == [tag], f"</{tag}> closes nothing"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data[:40]}")

    def _sound(self) -> None:
        ids = [attributes["id"] for _, attributes in self.elements if "id" in attributes]
        assert len(ids) == len(set(ids)), "an id stands twice"
        for tag, attributes in self.elements:
            for name, value in attributes.items():
                assert not name.startswith("on"), f"<{tag} {name}>"
                assert name not in {"style", "src", "srcdoc", "action", "xlink:href"}, f"<{tag} {name}>"
                self._refers(name, value or "", ids)

    @staticmethod
    def _refers(name: str, value: str, ids: list[Any]) -> None:
        if name == "href":
            assert value.startswith("#"), f"leads out of the page: {value}"
            assert value[1:] in ids, f"leads to nothing: {value}"
        if name in {"aria-labelledby", "aria-describedby"}:
            assert value in ids, f"{name} names nothing: {value}"
