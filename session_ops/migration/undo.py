"""What `migrate prepare --undo` does: what prepare has noted is removed, in the opposite order.

The application's own columns and rows stay, and the audit, which tells of this too. What ended while ours were there
does not come back: a release that does not know the column `deleted` would take an ended session's row for a live one,
so those rows go before the column does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_ops.errors import PreconditionError
from session_ops.migration.guard import Guard
from session_ops.migration.names import CHECK, PARTS, literal
from session_ops.migration.plan import Step

if TYPE_CHECKING:
    from session_ops.migration.facts import Facts
    from session_ops.migration.names import Names
    from session_ops.migration.work import Work


async def undoable(work: Work, facts: Facts, names: Names) -> None:
    """Raise `PreconditionError` unless the legacy store has every session to itself."""
    reasons = list(facts.refused)
    if facts.mode != "mirror":
        reasons.append(f"the mode is {facts.mode}: this table is not complete; return to mode mirror first")
    if facts.redis != "off":
        reasons.append(
            f"Redis is {facts.redis}: `session-ops generation bump --no-redis` gives every session back to this table"
        )
    owner, generation = names.columns.owner, names.columns.generation
    if not reasons and {owner, generation} <= set(facts.columns) and facts.generation:
        owned = await work.rows(
            f"SELECT 1 FROM {names.sessions} WHERE {names.column('owner')} = 'redis'"
            f" AND {names.column('generation')} = :generation LIMIT 1",
            generation=facts.generation,
        )
        if owned:
            reasons.append("Redis owns a session of this generation: move back or roll back first")
    if reasons:
        raise PreconditionError(*reasons)


def undoing(facts: Facts, names: Names, *, has_rows: bool, with_audit: bool) -> list[Step]:
    """The steps that are left; none where nothing of ours is there. `with_audit`: the audit goes as well."""
    kept = facts.exists and not facts.has_made("made", names.table)
    steps = _opened(facts, names, kept=kept)
    if kept:
        columns = [part for part in PARTS if _is_ours(facts, names, part)]
        if "deleted" in columns and has_rows:
            steps.append(_ended(names))
        steps += _indexes(facts, names)
        if columns:
            steps.append(_columns(names, columns))
    with_table = facts.exists and not kept and not has_rows
    kept_tables = () if with_audit else (names.control.audit.name, names.control.audit_head.name)
    return steps + _beside(facts, names, with_table=with_table, kept=kept_tables)


def _is_ours(facts: Facts, names: Names, part: str) -> bool:
    name = getattr(names.columns, part)
    return name in facts.columns and facts.has_made("column", name)


def _opened(facts: Facts, names: Names, *, kept: bool) -> list[Step]:
    statements = []
    if facts.guard:
        statements += Guard(facts, names).remove()
    if facts.stage is not None:
        statements.append(f"UPDATE {names.quoted(names.control.stage.name)} SET stage = NULL")
    if kept and names.driver.name == "postgresql":
        alter, bucket = f"ALTER TABLE {names.sessions}", facts.columns.get(names.columns.bucket)
        if facts.check != "absent":
            statements.append(f"{alter} DROP CONSTRAINT {CHECK}")
        if bucket is not None and not bucket.nullable and _is_ours(facts, names, "bucket"):
            statements.append(f"{alter} ALTER COLUMN {names.column('bucket')} DROP NOT NULL")
    if not statements:
        return []
    if names.driver.name == "postgresql" and names.control.control.name in facts.single:
        # Nobody turns Redis on between the look at this row and the end of the transaction
        statements.insert(0, f"SELECT 1 FROM {names.quoted(names.control.control.name)} FOR UPDATE")
    return [Step(name="open", why="the application's own code may write again", sql=tuple(statements))]


def _ended(names: Names) -> Step:
    session_id, deleted, table = names.column("id"), names.column("deleted"), names.sessions
    locked = " FOR UPDATE SKIP LOCKED" if names.driver.name == "postgresql" else ""
    rows = f"SELECT {session_id} FROM {table} WHERE {deleted} LIMIT :most{locked}"
    among = f"= ANY(ARRAY({rows}))" if locked else f"IN ({rows})"
    return Step(
        name="ended",
        why="the application's own code does not see that they have ended",
        sql=(
            f"DELETE FROM {table} WHERE {session_id} {among} RETURNING 1",
            f"SELECT 1 FROM {table} WHERE {deleted} LIMIT 1",
        ),
        how="empty",
    )


def _indexes(facts: Facts, names: Names) -> list[Step]:
    postgresql = names.driver.name == "postgresql"
    drop = "DROP INDEX CONCURRENTLY IF EXISTS" if postgresql else "DROP INDEX IF EXISTS"
    return [
        Step(
            name=f"index {name}",
            why="prepare has built it",
            sql=(f"{drop} {names.quoted(name)}", _forgotten(names, "index", [name])),
            how="alone" if postgresql else "together",
        )
        for name in sorted(made.name for made in facts.prepared if made.kind == "index")
    ]


def _columns(names: Names, parts: list[str]) -> Step:
    drops = [f"DROP COLUMN {names.column(part)}" for part in parts]
    alter = f"ALTER TABLE {names.sessions} "
    one_by_one = [alter + drop for drop in drops]
    ended = [f"DELETE FROM {names.sessions} WHERE {names.column('deleted')}"] if "deleted" in parts else []
    return Step(
        name="columns",
        why="prepare has added them",
        sql=(
            *ended,
            *([alter + ", ".join(drops)] if names.driver.name == "postgresql" else one_by_one),
            _forgotten(names, "column", [getattr(names.columns, part) for part in parts]),
        ),
    )


def _beside(facts: Facts, names: Names, *, with_table: bool, kept: tuple[str, ...]) -> list[Step]:
    control = {table.name for table in names.control.metadata.sorted_tables}
    ours = [
        table.name
        for table in names.beside
        if table.name in facts.beside
        and table.name not in kept
        and (table.name in control or facts.has_made("beside", table.name))
    ]
    if with_table:
        ours.append(names.table)
    if names.prepared.name in facts.beside:
        ours.append(names.prepared.name)
    if not ours:
        return []
    sql = tuple(f"DROP TABLE {names.quoted(name)}" for name in ours)
    why = "nothing of ours is left but the audit" if kept else "nothing of ours is left"
    return [Step(name="beside", why=why, sql=sql)]


def _forgotten(names: Names, kind: str, what: list[str]) -> str:
    among = ", ".join(literal(name) for name in what)
    return f"DELETE FROM {names.quoted(names.prepared.name)} WHERE kind = {literal(kind)} AND name IN ({among})"
