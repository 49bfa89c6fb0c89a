"""Where a row and a record are the same for certain, without a comparison field by field."""

from __future__ import annotations

from typing import Any

import pytest

from session_ops.limits import encode_text
from session_ops.migration.comparison import surely_same
from session_ops.records import Changed
from session_ops.stores.layout import pack_head
from session_ops.stores.legacy_rows import bucket_of

NOW = 1_790_000_000_000
ID = "s1"
ROW: dict[str, Any] = {
    "id": ID, "user_id": "ann", "agent_id": "bot", "created_at": NOW, "updated_at": NOW + 1, "expires_at": NOW + 9,
    "revision": "0123456789abcdef", "version": 7, "ttl": 60, "data": b'{"a": [1, {"b": 2}], "c": "d"}',
    "owner": "redis", "generation": 3, "deleted": False, "bucket": bucket_of(ID), "large": False,
}  # fmt: skip


def fields_of(row: dict[str, Any]) -> list[bytes]:
    parts, size = encode_text(row["data"])
    names = ("id", "user_id", "agent_id", "created_at", "updated_at", "expires_at", "revision", "version", "ttl")
    return [b"", pack_head(Changed(**{name: row[name] for name in names}), size, len(parts) // 2), *parts]


FIELDS = fields_of(ROW)


def test_what_put_has_made_is_surely_the_same() -> None:
    assert surely_same(tuple(ROW.values()), FIELDS, 3, NOW)
    near = [b"", b"\x81" + FIELDS[1][1:], *FIELDS[2:]]
    assert surely_same(tuple(ROW.values()), near, 3, NOW), "near its end it is filed otherwise"
    assert surely_same(tuple((ROW | {"data": ROW["data"].decode()}).values()), FIELDS, 3, NOW), "of a text column"


@pytest.mark.parametrize(
    "other",
    [
        {"user_id": "bob"}, {"agent_id": None}, {"created_at": NOW - 1}, {"updated_at": NOW}, {"expires_at": NOW + 8},
        {"expires_at": None}, {"revision": "0" * 16}, {"revision": "short"}, {"version": 8}, {"ttl": None},
        {"data": b'{"a":[1,{"b":3}],"c":"d"}'}, {"data": b'{"a":[1,{"b":2}]}'}, {"data": b"nonsense"}, {"data": None},
        {"data": b'{"a":[true,{"b":2}],"c":"d"}'}, {"owner": "legacy"}, {"generation": 2}, {"deleted": True},
        {"bucket": bucket_of(ID) + 1}, {"user_id": None},
    ],
    ids=str,
)  # fmt: skip
def test_whatever_else_the_row_says_is_to_be_compared(other: dict[str, Any]) -> None:
    assert not surely_same(tuple((ROW | other).values()), FIELDS, 3, NOW)


@pytest.mark.parametrize("fields", [None, [], [b"a", b"1"], FIELDS[:2], ValueError("WRONGTYPE"),
                                    [b"", FIELDS[1][:1] + b"\2" + FIELDS[1][2:], *FIELDS[2:]]], ids=repr)  # fmt: skip
def test_whatever_else_redis_has_is_to_be_compared(fields: Any) -> None:
    assert not surely_same(tuple(ROW.values()), fields, 3, NOW)


def test_what_has_ended_is_to_be_compared() -> None:
    assert not surely_same(tuple(ROW.values()), FIELDS, 3, NOW + 9)
