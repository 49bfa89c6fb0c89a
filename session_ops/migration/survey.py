"""Counts what is in the table before anything is changed: what moves, what has ended, and what cannot move as it is.

Rows are looked at, never judged by this: a row without an expiry stays where it is, and `migrate plan` names it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from session_ops.migration import facts_postgresql, facts_sqlite

if TYPE_CHECKING:
    from session_ops.migration.facts import Facts
    from session_ops.migration.names import Names
    from session_ops.migration.work import Work

SECONDS: Final = 100_000_000_000
"""Ms of March 1973: what lies below is a time in seconds (which passes it in the year 5138)."""

_PAGE: Final = 2_000
_is_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows there are, and how many of them are as no session is."""

    rows: int = 0
    expired: int = 0
    without_expiry: int = 0
    without_user: int = 0
    bad_data: int = 0
    """Attributes that are no JSON object: broken, pickled, a list."""
    odd_ids: int = 0
    """Ids that the service would not take (too long, a character that no framework draws)."""
    latest_expiry: int | None = None


async def survey(work: Work, facts: Facts, names: Names) -> Survey:
    """Count. Reads the whole table, and where attributes are plain text to PostgreSQL, fetches them too."""
    session_id, user, data, expires = map(names.column, ("id", "user_id", "data", "expires_at"))
    now = facts_postgresql.NOW if work.postgresql else facts_sqlite.NOW
    kind = facts.columns[names.columns.data]
    fetched = work.postgresql and kind.kind == "text"
    if not work.postgresql:
        bad = (
            f"CASE WHEN typeof({data}) = 'text' AND json_valid({data}) THEN json_type({data}) <> 'object' ELSE TRUE END"
        )
        odd = f"length({session_id}) NOT BETWEEN 1 AND 128 OR {session_id} GLOB '*[^A-Za-z0-9_.~,=-]*'"
    else:
        bad = "FALSE" if fetched else f"({kind.type}_typeof({data}) = 'object') IS NOT TRUE"
        odd = f"{session_id} !~ '^[A-Za-z0-9_.~,=-]{{1,128}}$'"
    [row] = await work.rows(
        f"SELECT count(*) AS all_rows, count(*) FILTER (WHERE {expires} <= {now}) AS expired,"
        f" count(*) FILTER (WHERE {expires} IS NULL) AS without_expiry,"
        f" count(*) FILTER (WHERE {user} IS NULL) AS without_user,"
        f" count(*) FILTER (WHERE {bad}) AS bad_data,"
        f" count(*) FILTER (WHERE {odd} OR substr({session_id}, 1, 1) = '.' OR {session_id} IS NULL) AS odd_ids,"
        f" max({expires}) AS latest FROM {names.sessions}"
    )
    return Survey(
        rows=row.all_rows,
        expired=row.expired,
        without_expiry=row.without_expiry,
        without_user=row.without_user,
        bad_data=await _unreadable(work, names, row.all_rows) if fetched else row.bad_data,
        odd_ids=row.odd_ids,
        latest_expiry=row.latest,
    )


async def _unreadable(work: Work, names: Names, total: int) -> int:
    """Rows whose text is no JSON object: PostgreSQL before 16 cannot say so without failing."""
    session_id, data = names.column("id"), names.column("data")
    chosen = f"SELECT {session_id}, {data} AS attributes FROM {names.sessions}"
    query = f"{chosen} WHERE {{}} ORDER BY {session_id} LIMIT {_PAGE}"
    bad, seen = 0, 0
    rows = await work.rows(query.format("TRUE"))
    while rows:
        for text in [row.attributes for row in rows]:
            try:
                _is_object(text or "")
            except (msgspec.DecodeError, UnicodeError, RecursionError):
                bad += 1
        seen += len(rows)
        work.progress("survey", done=seen, total=total)
        rows = await work.rows(query.format(f"{session_id} > :after"), after=rows[-1][0])
    return bad
