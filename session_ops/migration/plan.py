"""What prepare has to do to a table, as steps of SQL in their order; nothing where all of it is done.

The order keeps the application's own code at work for as long as possible: everything that takes time comes first, and
none of it is in that code's way. Then one short transaction puts the guard in place, and from there on the service
serves, because the same transaction writes the stage. What old code did up to that moment is filled in behind it.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final, Literal

import msgspec
from sqlalchemy.schema import CreateIndex, CreateTable

from session_ops.migration import facts_postgresql, facts_sqlite
from session_ops.migration.fitness import missing
from session_ops.migration.guard import Guard
from session_ops.migration.names import CHECK, literal
from session_ops.stores.legacy_schema import COUNTERS

if TYPE_CHECKING:
    from sqlalchemy import Index, Table

    from session_ops.migration.facts import Facts
    from session_ops.migration.names import Names
    from session_ops.settings import Flag

How = Literal["together", "alone", "fill", "finish", "empty"]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step. `together`: its statements are one transaction with short locks. `alone`: each by itself, waiting for
    others without anybody waiting for it. The others go page after page through rows: `fill` once, since old code goes
    on to insert, `finish` and `empty` until none is left."""

    name: str
    why: str
    sql: tuple[str, ...]
    how: How = "together"


# Constants, which stand in the catalogue: no row is written. Those of the first line hold for ever.
_CONSTANTS: Final = {"version": "1", "owner": "'legacy'", "generation": "0", "deleted": "FALSE"}
_FRESH_REVISION: Final = {
    "postgresql": "substr(md5(CAST(gen_random_uuid() AS TEXT)), 1, 16)",
    "sqlite": "lower(hex(randomblob(8)))",
}


def plan(facts: Facts, names: Names, who: str, flag: Flag | None = None) -> list[Step]:
    """The steps that are left. `who` is written beside the stage, and `flag` into it; None: off, until a migration."""
    steps: list[Step] = []
    if names.prepared.name not in facts.beside or not any(made.kind == "table" for made in facts.prepared):
        steps.append(_record(facts, names))
    if not facts.exists:
        steps.append(_table(facts, names))
    elif missing(facts, names):
        steps.append(_columns(facts, names))
    if facts.exists:
        guarded = Guard(facts, names).fingerprints == facts.guard
        if facts.unfilled and not guarded:
            why = "the mover takes sessions by their bucket; the application's own code goes on meanwhile"
            steps.append(_fill(facts, names, "fill", why))
        steps += _indexes(facts, names)
    steps += _beside(facts, names)
    steps += _close(facts, names, who, flag)
    return steps


def _record(facts: Facts, names: Names) -> Step:
    return Step(
        name="record",
        why="notes what prepare makes, so that --undo removes that and nothing else",
        sql=(_made(names, names.prepared), *_noted(facts, names, "table", names.table)),
    )


def _table(facts: Facts, names: Names) -> Step:
    indexes = sorted(names.schema.sessions.indexes, key=lambda index: str(index.name))
    return Step(
        name="table",
        why="there is no table of this name",
        sql=(
            _made(names, names.schema.sessions),
            *(_index(names, index) for index in indexes),
            _note(facts, names, "made", names.table),
        ),
    )


def _columns(facts: Facts, names: Names) -> Step:
    driver, table = names.driver, names.schema.sessions
    now = facts_postgresql.NOW if driver.name == "postgresql" else facts_sqlite.NOW
    fresh = {"created_at": now, "updated_at": now, "revision": _FRESH_REVISION[driver.name]}
    constants = _CONSTANTS | {
        "created_at": str(facts.now),
        "updated_at": str(facts.now),
        "revision": literal(secrets.token_hex(8)),
    }
    parts = missing(facts, names)
    added = []
    for part in parts:
        kind = table.c[part].type.compile(dialect=driver)
        default = f" DEFAULT {constants[part]} NOT NULL" if part in constants else ""
        added.append(f"ADD COLUMN {names.column(part)} {kind}{default}")
    if driver.name == "postgresql":
        statements = [f"ALTER TABLE {names.sessions} {', '.join(added)}"]
        later = [f"ALTER COLUMN {names.column(part)} SET DEFAULT {fresh[part]}" for part in parts if part in fresh]
        if later:
            statements.append(f"ALTER TABLE {names.sessions} {', '.join(later)}")
    else:
        statements = [f"ALTER TABLE {names.sessions} {each}" for each in added]
    note = _note(facts, names, "column", *(getattr(names.columns, part) for part in parts))
    return Step(
        name="columns",
        why="what the table lacks of a session; constant defaults, so no row is rewritten",
        sql=(*statements, note),
    )


def _is_required(facts: Facts, names: Names) -> bool:
    bucket = facts.columns.get(names.columns.bucket)
    return bucket is not None and not bucket.nullable


def _fill(facts: Facts, names: Names, how: Literal["fill", "finish"], why: str) -> Step:
    postgresql = names.driver.name == "postgresql"
    session_id, bucket, version = map(names.column, ("id", "bucket", "version"))
    values = [f"{bucket} = {_bucket(names)}", f"{version} = {version} + 1"]
    ours = "revision" in missing(facts, names) or facts.has_made("column", names.columns.revision)
    if ours:
        values.append(f"{names.column('revision')} = {_FRESH_REVISION[names.driver.name]}")
    page = (
        f"SELECT {session_id} FROM {names.sessions} WHERE {bucket} IS NULL AND {{}} ORDER BY {session_id} LIMIT :most"
    )
    unfilled = f"{session_id} >= :first AND {session_id} <= :last AND {bucket} IS NULL"
    if postgresql:
        # Rows that somebody has locked are left for the next round: waiting for one while holding others is how
        # deadlocks are made, and the application would not expect one.
        chosen = f"ARRAY(SELECT {session_id} FROM {names.sessions} WHERE {unfilled} FOR UPDATE SKIP LOCKED)"
        where = f"{session_id} = ANY({chosen}) AND {bucket} IS NULL"
    else:
        where = unfilled
    return Step(
        name=how,
        why=why,
        sql=(
            page.format(f"{session_id} IS NOT NULL"),  # SQLite lets a key be NULL
            page.format(f"{session_id} > :after"),
            f"UPDATE {names.sessions} SET {', '.join(values)} WHERE {where} RETURNING 1",
        ),
        how=how,
    )


def _bucket(names: Names) -> str:
    """`bucket_of`, as the database computes it."""
    if names.driver.name != "postgresql":
        return f"session_bucket({names.column('id')})"
    digest = f"encode(substr(sha256(convert_to({names.column('id')}, 'UTF8')), 1, 4), 'hex')"
    return f"mod(CAST(CAST('x' || {digest} AS BIT(32)) AS BIGINT), 100)"


def _indexes(facts: Facts, names: Names) -> list[Step]:
    concurrently = names.driver.name == "postgresql"
    steps = []
    for index in sorted(names.schema.sessions.indexes, key=lambda index: str(index.name)):
        name = str(index.name)
        there = facts.indexes.get(name)
        if there is not None and there.valid:
            continue
        left = there is not None
        statements = [*_noted(facts, names, "index", name)]
        if left:
            statements.append(f"DROP INDEX CONCURRENTLY IF EXISTS {names.quoted(name)}")
        statements.append(_index(names, index, concurrently=concurrently))
        why = "the interrupted build has left an invalid one" if left else "lists, counts, movers and cleanup read it"
        how: How = "alone" if concurrently else "together"
        steps.append(Step(name=f"index {name}", why=why, sql=tuple(statements), how=how))
    return steps


def _beside(facts: Facts, names: Names) -> list[Step]:
    statements = []
    for table in names.beside:
        if table.name not in facts.beside:
            statements += [_made(names, table), *_noted(facts, names, "beside", table.name)]
    for table in names.control.single:
        if table.name not in facts.single:
            statements.append(f"INSERT INTO {names.quoted(table.name)} (id) VALUES (1) ON CONFLICT DO NOTHING")
    if names.schema.counters.name not in facts.beside:
        rows = ", ".join(f"('{name}', 0)" for name in COUNTERS)
        counters = names.quoted(names.schema.counters.name)
        statements.append(f"INSERT INTO {counters} (name, value) VALUES {rows} ON CONFLICT DO NOTHING")
    if not statements:
        return []
    return [
        Step(name="beside", why="generation, stage, hosts, lock, audit; counters of cleanup", sql=tuple(statements))
    ]


def _close(facts: Facts, names: Names, who: str, flag: Flag | None) -> list[Step]:
    guard = Guard(facts, names)
    guarded = guard.fingerprints == facts.guard
    steps = []
    if not guarded or facts.stage is None:
        now = facts_postgresql.NOW if guard.postgresql else facts_sqlite.NOW
        wanted = (
            f" use_redis = {str(flag.use_redis_sessions).upper()}, percent = {flag.session_redis_percent},"
            if flag
            else ""
        )
        stage = (
            f"UPDATE {names.quoted(names.control.stage.name)} SET stage = 'prepared',{wanted} changed_at = {now},"
            f" changed_by = {literal(who)} WHERE stage IS NULL"
        )
        triggers = [] if guarded else [*(guard.remove() if facts.guard else []), *guard.make()]
        why = "from here on old code is refused, and the service serves"
        steps.append(Step(name="guard", why=why, sql=(*triggers, stage)))
    if not facts.exists or _is_required(facts, names):
        return steps
    if facts.unfilled or not guarded:
        why = "what the application's own code inserted until then, and what it kept locked"
        steps.append(_fill(facts, names, "finish", why))
    return steps + _required(facts, names)


def _required(facts: Facts, names: Names) -> list[Step]:
    """NOT NULL without a scan under a lock: PostgreSQL believes a constraint that it has proven without one."""
    if names.driver.name != "postgresql":
        return []
    alter, bucket = f"ALTER TABLE {names.sessions}", names.column("bucket")
    steps = []
    if facts.check == "absent":
        sql = f"{alter} ADD CONSTRAINT {CHECK} CHECK ({bucket} IS NOT NULL) NOT VALID"
        steps.append(Step(name="constraint", why="new rows have a bucket", sql=(sql,)))
    if facts.check != "proven":
        sql = f"{alter} VALIDATE CONSTRAINT {CHECK}"
        steps.append(
            Step(name="proof", why="so have all others; readers and writers go on meanwhile", sql=(sql,), how="alone")
        )
    final = (f"{alter} ALTER COLUMN {bucket} SET NOT NULL", f"{alter} DROP CONSTRAINT {CHECK}")
    return [*steps, Step(name="not null", why="the proof is what makes it quick", sql=final)]


def _made(names: Names, table: Table) -> str:
    return " ".join(str(CreateTable(table, if_not_exists=True).compile(dialect=names.driver)).split())


def _index(names: Names, index: Index, *, concurrently: bool = False) -> str:
    made = " ".join(str(CreateIndex(index).compile(dialect=names.driver)).split())
    return made.replace(
        "CREATE INDEX", "CREATE INDEX CONCURRENTLY" if concurrently else "CREATE INDEX IF NOT EXISTS", 1
    )


def _noted(facts: Facts, names: Names, kind: str, name: str) -> list[str]:
    return [] if facts.has_made(kind, name) else [_note(facts, names, kind, name)]


def _note(facts: Facts, names: Names, kind: str, *what: str) -> str:
    rows = ", ".join(f"({literal(kind)}, {literal(name)}, {facts.now})" for name in what)
    return f"INSERT INTO {names.quoted(names.prepared.name)} (kind, name, at) VALUES {rows} ON CONFLICT DO NOTHING"
