"""When two spellings of a Redis setting mean the same: `512mb` is `536870912`, `true` is `yes`, a list is its words."""

from __future__ import annotations

import re

# redis.conf, first section: 1k is 1000, 1kb is 1024, case does not matter.
_UNITS = {
    "b": 1,
    "k": 1000,
    "kb": 1024,
    "m": 1000**2,
    "mb": 1024**2,
    "g": 1000**3,
    "gb": 1024**3,
    "t": 1000**4,
    "tb": 1024**4,
}
_AMOUNT = re.compile(r"(\d+)([a-z]+)", re.IGNORECASE)
_EVENTS = {"A": "g$lshzxetd"}
_SECRETS = ("requirepass", "masterauth", "primaryauth", "tls-key-file-pass", "tls-client-key-file-pass")

# Changing one of these points Redis at other, empty files: it would start without its data.
DATA_PLACE = frozenset(("dir", "dbfilename", "appendfilename", "appenddirname"))


def rendered(value: object) -> str:
    """Return a YAML value as the words CONFIG SET takes: booleans as yes/no, a list as its items joined by spaces."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return " ".join(rendered(item) for item in value)
    text = str(value).strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    return text


def same(name: str, wanted: object, current: str) -> bool:
    """Say whether setting `name` to `wanted` would leave `current`, the answer of CONFIG GET, as it is."""
    left, right = rendered(wanted), current.strip()
    if left == right:
        return True
    if name == "notify-keyspace-events":
        return _events(left) == _events(right)
    if name == "client-output-buffer-limit":
        # CONFIG SET takes some of the classes, CONFIG GET answers all of them.
        return _classes(left).items() <= _classes(right).items()
    return [_word(word) for word in left.split()] == [_word(word) for word in right.split()]


def shown(name: str, value: str) -> str:
    """Return the value as it may stand in a diff."""
    return "(hidden)" if name in _SECRETS and value else value


def _word(word: str) -> str:
    amount = _AMOUNT.fullmatch(word)
    if amount and amount[2].lower() in _UNITS:
        return str(int(amount[1]) * _UNITS[amount[2].lower()])
    return {"true": "yes", "false": "no"}.get(word.lower(), word)


def _events(flags: str) -> frozenset[str]:
    return frozenset("".join(_EVENTS.get(flag, flag) for flag in flags))


def _classes(limits: str) -> dict[str, list[str]]:
    words = [_word(word) for word in limits.split()]
    return {{"replica": "slave"}.get(words[i], words[i]): words[i + 1 : i + 4] for i in range(0, len(words), 4)}
