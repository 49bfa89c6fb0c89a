"""What an application's table calls the parts of a session."""

from __future__ import annotations

import re

import msgspec

# What PostgreSQL and SQLite both take; PostgreSQL cuts longer names.
_NAME = r"[A-Za-z_][A-Za-z0-9_$]{0,62}"
_COLUMN = re.compile(_NAME).fullmatch
_TABLE = re.compile(rf"(?:{_NAME}\.)?{_NAME}").fullmatch


class Columns(msgspec.Struct, frozen=True, kw_only=True):
    """What the table calls each part of a session. Times are integer milliseconds, UTC."""

    id: str = "id"
    version: str = "version"
    owner: str = "owner"
    generation: str = "generation"
    user_id: str = "user_id"
    agent_id: str = "agent_id"
    data: str = "data"
    created_at: str = "created_at"
    updated_at: str = "updated_at"
    revision: str = "revision"
    ttl: str = "ttl"
    expires_at: str = "expires_at"
    deleted: str = "deleted"
    bucket: str = "bucket"
    told_at: str = "told_at"


def is_table(name: str) -> bool:
    """Whether a table can be called `name`, a schema in front or not."""
    return _TABLE(name) is not None


def read_columns(text: str) -> Columns:
    """The columns as LEGACY_COLUMNS names them, `id=sid,user_id=uid`; what it leaves out is called as the part is.

    Raises `ValueError` with what is wrong.
    """
    names = named_columns(text)
    columns = Columns(**names)
    taken: dict[str, str] = {}
    for part in Columns.__struct_fields__:
        name = getattr(columns, part)
        # SQLite's names are the same in every case.
        if other := taken.get(name.lower()):
            raise ValueError(f"{other} and {part} are both called {name}")
        taken[name.lower()] = part
    return columns


def named_columns(text: str) -> dict[str, str]:
    """The parts that LEGACY_COLUMNS names itself. Raises `ValueError` as `read_columns` does."""
    names: dict[str, str] = {}
    for pair in filter(None, (each.strip() for each in text.split(","))):
        part, equals, name = (each.strip() for each in pair.partition("="))
        if not equals or not _COLUMN(name):
            raise ValueError(f"expected PART=COLUMN, not {pair!r}")
        if part not in Columns.__struct_fields__:
            raise ValueError(f"{part} is no part of a session; those are {', '.join(Columns.__struct_fields__)}")
        if part in names:
            raise ValueError(f"{part} is named twice")
        names[part] = name
    return names
