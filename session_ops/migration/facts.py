"""What an application's table of sessions is like, in words that are the same for every database."""

from __future__ import annotations

from typing import Literal

import msgspec

Kind = Literal["text", "json", "integer", "boolean", "other"]


class ColumnFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One column. `type` as the database writes it; `bits` of an integer, `length` of a text that has a limit."""

    name: str
    type: str
    kind: Kind
    bits: int = 64
    length: int | None = None
    nullable: bool
    default: bool
    """Whether a row that does not name the column gets a value all the same."""
    computed: bool = False


class IndexFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One index. Not `valid`: what an interrupted build leaves behind."""

    name: str
    columns: tuple[str, ...]
    partial: bool
    unique: bool
    valid: bool = True


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is noted: `kind` is table (the sessions' own), made (it was not there before), column,
    index or beside (a small table)."""

    kind: str
    name: str


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that planning needs; read at one time, from the catalogue alone."""

    now: int
    """The database's clock, ms."""
    exists: bool = False
    refused: tuple[str, ...] = ()
    """What the catalogue itself rules out: it is no table, we have no rights."""
    columns: dict[str, ColumnFacts] = {}
    key: tuple[str, ...] | None = None
    """The columns of the primary key."""
    indexes: dict[str, IndexFacts] = {}
    guard: tuple[str, ...] = ()
    """The fingerprints of the guard's triggers that are in place."""
    check: Literal["absent", "unproven", "proven"] = "absent"
    """The constraint that says of `bucket` what NOT NULL will say."""
    unfilled: bool = False
    """Whether a row has no bucket yet."""
    beside: frozenset[str] = frozenset()
    """Which of our small tables are there."""
    single: frozenset[str] = frozenset()
    """Which of our tables of one row have it."""
    prepared: frozenset[Made] = frozenset()
    stage: str | None = None
    use_redis: bool = False
    """The stage row's flag, for every host."""
    percent: int = 0
    generation: int = 0
    mode: str = "mirror"
    redis: str = "off"

    def has_made(self, kind: str, name: str) -> bool:
        """Whether prepare has made this, today or in an earlier run."""
        return Made(kind=kind, name=name) in self.prepared

    def is_key(self, column: str) -> bool:
        """Whether a row is known by this column alone."""
        facts = self.columns[column]
        if self.key == (column,):
            return True
        unique = any(index.unique and index.valid and not index.partial and index.columns == (column,)
                     for index in self.indexes.values())  # fmt: skip
        return unique and not facts.nullable
