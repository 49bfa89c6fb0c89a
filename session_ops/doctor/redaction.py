"""Takes secrets out of what leaves the host: the values that the settings know, and whatever looks like one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, quote_plus, unquote, urlsplit

from session_ops.settings_table import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from session_ops.settings import Settings

MASK: Final = "********"

SHORTEST: Final = 4
"""Characters: a shorter value would be found in innocent words; no setting's value is put into a bundle as it is."""

_NAMES: Final = r"[\w-]{0,40}(?:passw(?:or)?d|secret|token|api_?key|private_?key|requirepass|masterauth|cookie)s?"
"""Of fields whose value is one."""

_PATTERNS: Final = (
    (re.compile(r"(://[^/\s:@\"']*:)[^\s\"']*@"), rf"\1{MASK}@"),
    (re.compile(r"(?i)(authorization\b.{0,4}?[:=]\W*(?:bearer|basic)?\s*)[^\s\"',;}]+"), rf"\1{MASK}"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"), rf"\1 {MASK}"),
    (re.compile(r"(?i)\b(auth)(\s+\S+)?\s+\S{8,}(?=[\"'\s]|$)"), rf"\1 {MASK}"),
    (re.compile(rf"(?i)({_NAMES}[\"']?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|[^\s,;&}}\"']+)"), rf"\1{MASK}"),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL), MASK),
)


class Redaction:
    """Knows the secrets of the settings, in the forms in which they may turn up."""

    def __init__(self, settings: Settings) -> None:
        values = {form for value in _secrets(settings) for form in _forms(value) if len(form) >= SHORTEST}
        longest_first = sorted(values, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def text(self, text: str) -> str:
        """The text without them."""
        if self._known is not None:
            text = self._known.sub(MASK, text)
        for pattern, instead in _PATTERNS:
            text = pattern.sub(instead, text)
        return text

    def value(self, value: Any) -> Any:
        """What JSON is made of, every string in it without them; before it is written, so that no escape hides one."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(str(name)): self._field(str(name), each) for name, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(each) for each in value]
        return value

    def _field(self, name: str, value: Any) -> Any:
        if isinstance(value, str) and value and re.search(rf"{_NAMES}$", name, re.IGNORECASE):
            return MASK
        return self.value(value)


def _secrets(settings: Settings) -> Iterator[str]:
    for row in SETTINGS:
        value = getattr(settings, row.field)
        if row.secret and isinstance(value, str) and value:
            yield value
            yield from re.findall(r"[0-9a-fA-F]{64}", value)
            try:
                password = urlsplit(value).password
            except ValueError:
                password = None
            if password:
                yield password
            yield from re.findall(r"[?&](?:password|sslpassword)=([^&]+)", value)


def _forms(value: str) -> Iterator[str]:
    for form in (value, unquote(value)):
        yield from (form, quote(form), quote(form, safe=""), quote_plus(form), repr(form)[1:-1])
        yield from (form.replace("\\", "\\\\").replace('"', '\\"'), form.encode("ascii", "backslashreplace").decode())
