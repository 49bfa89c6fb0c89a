"""The ends of sessions in SQL: given out to be told, removed once told and long over, and counted.

Counters are not kept but counted where the rows lie, so that no write pays for a counter and no two writes wait for
the same counter's row. Only what cleanup removes is added to a number, in the transaction that removes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from session_ops.records import Statistics
from session_ops.stores.legacy_rows import to_ended

if TYPE_CHECKING:
    from session_ops.records import Ended
    from session_ops.stores.legacy_database import Database, Transaction
    from session_ops.stores.legacy_statements import Statements

_EVER: Final = 2**62


async def take(database: Database, statements: Statements, limit: int) -> list[Ended]:
    """Remove up to `limit` rows that are told and long over, then give out up to `limit` ends: new ones first."""

    async def purge(transaction: Transaction) -> None:
        gone = await transaction.change(statements.purge, most=limit)
        deleted = sum(bool(row.deleted) for row in gone)
        for name, purged in (("deleted", deleted), ("expired", len(gone) - deleted)):
            if purged:
                await transaction.change(statements.count_purged, name=name, purged=purged)

    await database.change_together(purge)
    new = await database.change(statements.take, most=limit)
    if len(new) == limit:
        return to_ended(new)
    before = new[0].now if new else _EVER
    again = await database.change(statements.again, most=limit - len(new), before=before)
    return to_ended(new) + to_ended(again)


async def count(database: Database, statements: Statements) -> Statistics:
    """What the store holds and has seen. A session counts as expired once cleanup has taken it."""
    rows = await database.read(statements.statistics)
    purged = {row.name: row.rows for row in rows if row.name}
    parts = [row for row in rows if not row.name]
    return Statistics(
        active=sum(row.active for row in parts),
        created=sum(purged.values()) + sum(row.rows for row in parts),
        expired=purged["expired"] + sum(row.expired for row in parts),
        deleted=purged["deleted"] + sum(row.deleted for row in parts),
        moved=0,
    )
