"""Whether an application's table can hold what a session needs; every refusal says what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from session_ops.migration.names import PARTS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from session_ops.migration.facts import ColumnFacts, Facts, Kind
    from session_ops.migration.names import Names

BROUGHT: Final = ("id", "user_id", "data", "expires_at")
"""The application brings these; whatever else is missing prepare adds."""

# Words that an application may use for something of its own (`owner` of a row, `version` of a format). A column of this
# name is only taken for ours where prepare has made it, where the operator says so, or where none is missing.
_AMBIGUOUS: Final = ("version", "owner", "generation", "revision", "ttl", "deleted", "bucket", "told_at")

# A row without these cannot be served at all; of the others a row may lack something, and is counted.
_COMPLETE: Final = ("version", "owner", "generation", "created_at", "updated_at", "revision", "deleted")

_TIMES: Final = ("created_at", "updated_at", "expires_at", "told_at")
_BITS: Final = dict.fromkeys((*_TIMES, "version"), 64) | {"generation": 32, "ttl": 32, "bucket": 16}
# `id`: what the service draws. `owner`: the word redis or legacy.
_LENGTHS: Final = {"id": 32, "owner": 6, "revision": 16, "data": 2**31}
_KINDS: Final[dict[str, tuple[Kind, ...]]] = {
    **dict.fromkeys(_BITS, ("integer",)),
    **dict.fromkeys(("id", "user_id", "agent_id", "owner", "revision"), ("text",)),
    "data": ("json", "text"),
    "deleted": ("boolean",),
}


MILLISECONDS: Final = (
    "it must hold integer milliseconds, UTC: add a bigint column beside it, have the application write it as well,"
    " fill it, and name it in LEGACY_COLUMNS, expires_at=..."
)
"""What to do about an expiry of another kind. Prepare cannot add it: only the application knows when a session ends."""


def refusals(facts: Facts, names: Names, named: Collection[str]) -> list[str]:
    """Why this table cannot be prepared, one line each; none if it can. `named`: the parts in LEGACY_COLUMNS."""
    refused = list(facts.refused)
    if facts.mode == "final":
        refused.append("the migration is in mode final: Redis alone has the sessions, this table is out of date")
    other = next((made.name for made in facts.prepared if made.kind == "table" and made.name != names.table), None)
    if other:
        refused.append(f"{other} was prepared here, and there is one set of control tables: LEGACY_TABLE must name it")
    if not facts.exists or refused:
        return refused
    for part in PARTS:
        refused += _judged(part, facts, names, named)
    if all(getattr(names.columns, part) in facts.columns for part in BROUGHT):
        refused += _foreign(facts, names)  # else the column that is not named yet would be among them
    for index in names.schema.sessions.indexes:
        there = facts.indexes.get(str(index.name))
        wanted = tuple(column.name for column in index.columns)
        if there is not None and there.columns != wanted:
            refused.append(
                f"an index of the application is called {index.name}, which is to be one on ({', '.join(wanted)}):"
                f" ALTER INDEX {index.name} RENAME TO another name"
            )
    return refused


def is_complete(facts: Facts, names: Names) -> bool:
    """Whether the table has every part of a session, as the repository's own table does."""
    return all(getattr(names.columns, part) in facts.columns for part in PARTS)


def missing(facts: Facts, names: Names) -> list[str]:
    """The parts for which a column is to be added."""
    return [part for part in PARTS if getattr(names.columns, part) not in facts.columns]


def _judged(part: str, facts: Facts, names: Names, named: Collection[str]) -> Iterator[str]:
    name = getattr(names.columns, part)
    column = facts.columns.get(name)
    if column is None:
        if part in BROUGHT:
            yield (
                f"{part}: {names.sessions} has no column {name}; name the one that holds it in LEGACY_COLUMNS,"
                f" {part}=..., or add one and let the application fill it"
            )
        return
    ours = facts.has_made("column", name) or is_complete(facts, names)
    if part in _AMBIGUOUS and part not in named and not ours:
        yield (
            f"{part}: the table has a column {name} of its own; if it means the same, say so with LEGACY_COLUMNS"
            f" {part}={name}, else let prepare add another with {part}=session_{part}"
        )
        return
    if said := _unfit(part, column):
        yield f"{part}: column {name} is {column.type}; {said}"
    if part == "id" and not facts.is_key(name):
        yield f"id: {name} is no key by itself; make it the primary key, or NOT NULL with a unique index on it alone"
    if part in _COMPLETE and column.nullable:
        yield f"{part}: column {name} may be NULL; fill it and make it NOT NULL"


def _unfit(part: str, column: ColumnFacts) -> str | None:
    """What is wrong with a column's type, and what to do."""
    if column.kind not in _KINDS[part] or column.bits < _BITS.get(part, 0):
        if part == "expires_at":
            return MILLISECONDS
        if part in _TIMES:
            return f"it must hold integer milliseconds, UTC: let prepare add another, LEGACY_COLUMNS {part}={part}_ms"
        wanted = {"integer": f"an integer of {_BITS.get(part)} bits", "json": "jsonb, json or text", "text": "text"}
        return f"it must be {wanted.get(_KINDS[part][0], _KINDS[part][0])}"
    if column.length is not None and column.length < _LENGTHS.get(part, 0):
        return f"it must take {_LENGTHS[part]} characters" if part != "data" else "it must be jsonb, json or text"
    if column.computed:
        return "the database computes it, and it has to be written"
    return None


def _foreign(facts: Facts, names: Names) -> Iterator[str]:
    """Columns that only the application knows, and without which no row can be made."""
    ours = {getattr(names.columns, part) for part in PARTS}
    for column in facts.columns.values():
        if column.name not in ours and not column.nullable and not column.default and not column.computed:
            yield f"column {column.name} is NOT NULL, and only the application fills it; give it a default"
