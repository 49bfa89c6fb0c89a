"""The movers' side of the ownership protocol in SQL (docs/ownership.md, section 6): many sessions by one statement.

SLICE    where the next part of the table ends
CLAIM    a batch of rows that have their home in Redis is Redis' from here on
BACK     a page of rows that Redis owns and that have their home here
CLAIMED  of rows that were claimed once, those that Redis still owns
RETURN   APPLY of markers: the rows are the legacy store's again; their data, which may be no JSON, are not touched
ODD      rows that cannot move as they are, as far as the database can say so without reading them
PAGE     rows by id, all or those of some buckets; AMONG, SAMPLE  those with these ids; some at random

A slice is a range of ids, so that no statement looks at more rows than it can within its timeout, however few of them
are to be moved. Within a slice CLAIM is repeated until it comes to the end. In which order ids come only the database
knows, which therefore says itself behind which id the next one goes on, or is asked for what is left: what was claimed
does not match any more.

Written as text, as APPLY is. Attributes are read as bytes: what is no text must not fail the rows beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import sqlalchemy
from sqlalchemy import BigInteger, Float, Integer, Text, bindparam

from session_ops.stores.legacy_prepared import Statement
from session_ops.stores.legacy_statements import PARTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.engine import Dialect as Driver

    from session_ops.stores.control_schema import ControlSchema
    from session_ops.stores.legacy_database import Database, Transaction
    from session_ops.stores.legacy_dialects import Dialect
    from session_ops.stores.legacy_schema import Schema

LARGEST: Final = 1_048_576
"""Bytes of a session's data at most: what one call of a function carries. The service itself takes far less."""

BAD_ID: Final = "id: no session can have it"

_SLICE: Final = """
SELECT max(id) AS upto, count(*) AS found
FROM (SELECT {id} AS id FROM {table} WHERE {id} > :after ORDER BY {id} LIMIT :most) AS slice
"""

_CLAIM: Final = """
WITH b AS (
  SELECT s.{id} AS id FROM {table} AS s WHERE s.{id} > :after AND s.{id} <= :upto AND {wanted}
  ORDER BY s.{id} LIMIT :most
)
{taking}
"""

# Where a WITH may hold an UPDATE, the claim looks at so many rows and says which was the last, so that no row is looked
# at twice. Left to itself PostgreSQL reads all of the range for every batch: it expects few rows to be claimable.
_CLAIM_ONWARD: Final = """
WITH looked AS MATERIALIZED (
  SELECT max(part.id) AS last FROM (
    SELECT {id} AS id FROM {table} WHERE {id} > :after AND {id} <= :upto ORDER BY {id} LIMIT :most
  ) AS part
), b AS MATERIALIZED (
  SELECT s.{id} AS id FROM {table} AS s
  WHERE s.{id} > :after AND s.{id} <= (SELECT last FROM looked) AND {wanted}
  ORDER BY s.{id} {locking}
), taken AS ({taking})
SELECT looked.last, taken.* FROM looked LEFT JOIN taken ON TRUE
"""

_WANTED: Final = "s.{expires_at} > {now} AND {home} AND {claimable} AND NOT ({odd}) AND {known}"

_TAKING: Final = """
UPDATE {table} AS s SET {owner} = 'redis', {generation} = :g, {version} = s.{version} + 1
FROM b WHERE s.{id} = b.id AND {claimable}
RETURNING {returning}
"""

_CLAIMABLE: Final = "NOT s.{deleted} AND s.{generation} <= :g AND (s.{owner} = 'legacy' OR s.{generation} < :g)"

_REDIS_OWNS: Final = "s.{owner} = 'redis' AND s.{generation} = :g AND NOT s.{deleted}"

_BACK: Final = """
SELECT {marked} FROM {table} AS s
WHERE {redis_owns} AND s.{id} > :after AND s.{id} <= :upto AND NOT {home} ORDER BY s.{id} LIMIT :most
"""

_CLAIMED: Final = "SELECT {selected} FROM {table} AS s WHERE {among} AND {redis_owns}"

# Rows are locked in the order of their ids, as those of APPLY are
_RETURN: Final = """
WITH v AS MATERIALIZED (SELECT {given}), locked AS MATERIALIZED (
  SELECT s.{id} AS id FROM {table} AS s WHERE s.{id} = ANY (ARRAY(SELECT id FROM v)) ORDER BY s.{id} FOR UPDATE
)
UPDATE {table} AS s SET {version} = v.version, {owner} = 'legacy' FROM v JOIN locked AS l ON l.id = v.id
WHERE s.{id} = v.id AND s.{generation} = :g AND s.{version} < v.version RETURNING 1
"""

_RETURN_SQLITE: Final = """
UPDATE {table} AS s SET {version} = v.version, {owner} = 'legacy'
FROM (SELECT {given} FROM json_each(:marked)) AS v
WHERE s.{id} = v.id AND s.{generation} = :g AND s.{version} < v.version RETURNING 1
"""

_ODD: Final = """
SELECT s.{id} AS id, CASE WHEN s.{expires_at} IS NULL THEN 'no expiry' WHEN s.{expires_at} > 9007199254740992
    THEN 'expiry out of range' WHEN s.{user_id} IS NULL OR s.{user_id} = '' THEN 'no user'
    WHEN length(s.{user_id}) > 256 THEN 'user: 1 to 256 printable characters'
    WHEN coalesce(length(s.{agent_id}), 0) > 256 THEN 'agent: 1 to 256 printable characters'
    WHEN {large} THEN 'too large' ELSE '{bad_id}' END AS reason, {as_bytes} AS data
FROM {table} AS s
WHERE s.{id} > :after AND s.{id} <= :upto AND ({odd}) AND {claimable} AND {known} ORDER BY s.{id} LIMIT 20
"""

_COUNTS: Final = """
SELECT count(*) AS all_rows, count(*) FILTER (WHERE NOT s.{deleted} AND s.{expires_at} <= {now}) AS expired,
  count(*) FILTER (WHERE {claimable} AND s.{expires_at} > {now} AND {home} AND NOT ({odd}) AND {known}) AS to_redis,
  count(*) FILTER (WHERE {redis_owns} AND NOT {home}) AS to_legacy
FROM {table} AS s
"""

_LOOKED: Final = """
SELECT {paged}, s.{owner} AS at, s.{generation} AS g, s.{deleted} AS over, s.{bucket} AS part, {large} AS large
FROM {table} AS s"""

_PAGE: Final = f"{_LOOKED} WHERE s.{{id}} > :after ORDER BY s.{{id}} LIMIT :most"

_PAGE_OF: Final = f"{_LOOKED} WHERE s.{{id}} > :after AND {{of_buckets}} ORDER BY s.{{id}} LIMIT :most"

_AMONG: Final = f"{_LOOKED} WHERE {{among}}"

_SAMPLE: Final = f"{_LOOKED} {{sampled}} ORDER BY random() LIMIT :most"

_KNOWN: Final = "SELECT s.{id} AS id FROM {table} AS s WHERE {among}"

_BUCKET: Final = "UPDATE {table} AS s SET {bucket} = :bucket WHERE s.{id} = :id RETURNING 1"


class Moves:
    """The statements. Each raises `StoreUnavailableError`, and where it changes something `OutcomeUnknownError`."""

    def __init__(self, database: Database, schema: Schema, control: ControlSchema) -> None:
        self._database = database
        self._dialect = database.dialect
        texts = _Texts(schema, control, database.dialect, database.engine.dialect)
        self.slice_ = texts.statement(_SLICE)
        self._onward = database.dialect.data_modifying_ctes
        self.claim_ = texts.statement(_CLAIM_ONWARD if self._onward else _CLAIM)
        self.back_ = texts.statement(_BACK)
        self.claimed_ = texts.statement(_CLAIMED)
        self.return_ = texts.statement(_RETURN if self._dialect.name == "postgresql" else _RETURN_SQLITE)
        self.odd_ = texts.statement(_ODD)
        self.counts_ = texts.statement(_COUNTS)
        self.page_ = texts.statement(_PAGE)
        self.page_of_ = texts.statement(_PAGE_OF)
        self.among_ = texts.statement(_AMONG)
        self.sample_ = texts.statement(_SAMPLE)
        self.known_ = texts.statement(_KNOWN)
        self.bucket_ = texts.statement(_BUCKET)
        self.rows_ = texts.statement("{rows}")

    async def rows(self) -> int:
        """About how many rows the table has; 0 where the database has not counted them yet."""
        [(rows,)] = await self._database.read(self.rows_)
        return int(rows)

    async def counts(self, g: int, percent: int, canaries: Sequence[str]) -> Any:
        """`all_rows`, `expired`, and how many sessions would move, `to_redis` and `to_legacy`. Reads the whole table:
        for a database whose deadline allows that.
        """
        [row] = await self._database.read(
            self.counts_, g=g, percent=percent, canaries=self._dialect.texts(canaries), largest=LARGEST
        )
        return row

    async def bare_page(self, after: str, most: int, buckets: Sequence[int] | None = None) -> Sequence[Sequence[Any]]:
        """PAGE, as plain tuples. `buckets` None: of all."""
        if buckets is None:
            return await self._database.read_many(self.page_, after=after, most=most, largest=LARGEST)
        wanted = self._dialect.texts([str(each) for each in buckets])
        return await self._database.read_many(self.page_of_, after=after, most=most, largest=LARGEST, buckets=wanted)

    async def page(self, after: str, most: int) -> Sequence[Any]:
        """PAGE: rows by id, to be looked at: `PARTS` (no data where it is too large), then owner (`at`), generation
        (`g`), deleted (`over`), bucket (`part`) and `large`.
        """
        return await self._database.read(self.page_, after=after, most=most, largest=LARGEST)

    async def among(self, ids: Sequence[str]) -> Sequence[Any]:
        """AMONG: the rows with these ids, as `page` gives them."""
        return await self._database.read(self.among_, ids=self._dialect.texts(ids), largest=LARGEST)

    async def sample(self, most: int) -> Sequence[Any]:
        """SAMPLE: rows at random, as `page` gives them; of a large table of PostgreSQL by blocks, so that not all of it
        is read.
        """
        if self._dialect.name != "postgresql":
            return await self._database.read(self.sample_, most=most, largest=LARGEST)
        about = await self.rows()
        share = min(100.0, 400.0 * most / about) if about else 100.0
        rows = await self._database.read(self.sample_, most=most, largest=LARGEST, share=share)
        if len(rows) < most and share < 100.0:
            rows = await self._database.read(self.sample_, most=most, largest=LARGEST, share=100.0)
        return rows

    async def known(self, ids: Sequence[str]) -> set[str]:
        """Which of these ids have a row."""
        return {row[0] for row in await self._database.read(self.known_, ids=self._dialect.texts(ids))}

    async def set_bucket(self, session_id: str, bucket: int) -> bool:
        """Give a row the bucket of its id; whether there is one."""
        return bool(await self._database.change(self.bucket_, id=session_id, bucket=bucket))

    async def slice(self, transaction: Transaction, after: str, most: int) -> tuple[str | None, int]:
        """SLICE: the last of the `most` ids behind `after`, None where there is none; and how many there are."""
        [row] = await transaction.change(self.slice_, after=after, most=most)
        return row.upto, row.found

    async def claim(
        self, transaction: Transaction, g: int, within: tuple[str, str], home: tuple[int, Sequence[str]], most: int
    ) -> tuple[Sequence[Any], str | None]:
        """CLAIM: the rows (`PARTS`, as they are now), at most `most`; and the id behind which the next claim goes on,
        None where that was all of this range of ids.

        `home`: the percentage, and the canaries.
        """
        after, upto = within
        rows = await transaction.many(
            self.claim_,
            g=g,
            after=after,
            upto=upto,
            percent=home[0],
            canaries=self._dialect.texts(home[1]),
            most=most,
            largest=LARGEST,
        )
        if not self._onward:
            return rows, after if len(rows) == most else None
        last = rows[0][0]
        return [row[1:] for row in rows if row[1] is not None], None if last == upto else last

    async def back(self, g: int, within: tuple[str, str], home: tuple[int, Sequence[str]], most: int) -> Sequence[Any]:
        """BACK, by id: the rows without their data, which a move back does not need."""
        return await self._database.read(
            self.back_,
            g=g,
            after=within[0],
            upto=within[1],
            percent=home[0],
            canaries=self._dialect.texts(home[1]),
            most=most,
        )

    async def claimed(self, g: int, ids: Sequence[str]) -> Sequence[Any]:
        """CLAIMED: their rows (`PARTS`)."""
        return await self._database.read_many(self.claimed_, g=g, ids=self._dialect.texts(ids))

    async def return_marked(self, g: int, marked: Mapping[str, int]) -> int:
        """RETURN, for markers of generation `g`, each session's with its version; how many rows took them."""
        if not marked:
            return 0
        pairs = msgspec.json.encode([{"id": each, "version": version} for each, version in marked.items()])
        return len(await self._database.change(self.return_, g=g, marked=pairs.decode()))

    async def odd(self, g: int, after: str, upto: str) -> Sequence[Any]:
        """ODD: `id`, `reason` and `data` of twenty that are not in quarantine yet."""
        return await self._database.read(self.odd_, g=g, after=after, upto=upto, largest=LARGEST)


class _Texts:
    """What the statements are put together from, for one table of one database."""

    def __init__(self, schema: Schema, control: ControlSchema, dialect: Dialect, driver: Driver) -> None:
        self._driver = driver
        quote = driver.identifier_preparer.quote
        names = {part: quote(schema.sessions.c[part].name) for part in schema.sessions.c.keys()}  # noqa: SIM118 - columns, not names, are what iterating gives
        postgresql = dialect.name == "postgresql"
        table = driver.identifier_preparer.format_table(schema.sessions)
        quarantine = driver.identifier_preparer.format_table(control.quarantine)
        if postgresql:
            bad_id = "(s.{id} !~ '^[A-Za-z0-9_~,=-][A-Za-z0-9_.~,=-]*$' OR length(s.{id}) > 128)"
            # What is stored compressed is at least as large once it is read
            large = "coalesce(pg_column_size(s.{data}), 0) > :largest"
            canary, among = "s.{id} = ANY(:canaries)", "s.{id} = ANY(:ids)"
            of_buckets, sampled = "s.{bucket} = ANY(CAST(:buckets AS SMALLINT[]))", "TABLESAMPLE SYSTEM (:share)"
            as_bytes = "convert_to(CAST(s.{data} AS TEXT), 'UTF8')"
        else:
            bad_id = (
                "(s.{id} GLOB '*[^A-Za-z0-9_.~,=-]*' OR length(s.{id}) NOT BETWEEN 1 AND 128"
                " OR substr(s.{id}, 1, 1) = '.')"
            )
            large = "coalesce(length(CAST(s.{data} AS BLOB)), 0) > :largest"
            canary = "s.{id} IN (SELECT value FROM json_each(:canaries))"
            among = "s.{id} IN (SELECT value FROM json_each(:ids))"
            of_buckets, sampled = "s.{bucket} IN (SELECT CAST(value AS INTEGER) FROM json_each(:buckets))", ""
            as_bytes = "CAST(s.{data} AS BLOB)"
        pieces = {
            "now": str(dialect.now().compile(dialect=driver)),
            "home": f"(s.{{bucket}} < :percent OR {canary})",
            "claimable": _CLAIMABLE,
            "redis_owns": _REDIS_OWNS,
            "odd": f"s.{{expires_at}} IS NULL OR s.{{expires_at}} > 9007199254740992 OR s.{{user_id}} IS NULL"
            f" OR s.{{user_id}} = '' OR length(s.{{user_id}}) > 256 OR coalesce(length(s.{{agent_id}}), 0) > 256"
            f" OR {bad_id} OR {large}",
            "known": f"NOT EXISTS (SELECT 1 FROM {quarantine} AS q WHERE q.id = s.{{id}})",
            "large": large,
            "among": among,
            "of_buckets": of_buckets,
            "sampled": sampled,
            "as_bytes": as_bytes,
            "selected": ", ".join(as_bytes if part == "data" else f"s.{{{part}}}" for part in PARTS),
            "paged": ", ".join(
                f"CASE WHEN {large} THEN NULL ELSE {as_bytes} END" if part == "data" else f"s.{{{part}}}"
                for part in PARTS
            ),
            "marked": ", ".join("'{{}}'" if part == "data" else f"s.{{{part}}}" for part in PARTS),
        }
        # SQLite takes no alias behind RETURNING
        returning = pieces["selected"] if postgresql else pieces["selected"].replace("s.", "")
        self._pieces = {
            **{name: piece.format(**names) for name, piece in pieces.items() if name != "now"},
            "returning": returning.format(**names),
            "now": pieces["now"],
            "bad_id": BAD_ID,
            # Of PostgreSQL the planner's own estimate: counting millions takes longer than a statement may
            "rows": f"SELECT greatest(reltuples, 0) FROM pg_class WHERE oid = CAST('{table}' AS regclass)"
            if postgresql
            else f"SELECT count(*) FROM {table}",
            "table": table,
            "locking": "FOR UPDATE OF s SKIP LOCKED" if postgresql else "",
            "given": "* FROM json_to_recordset(CAST(:marked AS json)) AS m(id text, version bigint)"
            if postgresql
            else "json_extract(value, '$.id') AS id, json_extract(value, '$.version') AS version",
            **names,
        }
        self._pieces |= {name: text.format(**self._pieces) for name, text in (("wanted", _WANTED), ("taking", _TAKING))}
        texts = sqlalchemy.ARRAY(Text) if postgresql else Text
        self._types: dict[str, Any] = {
            **dict.fromkeys(("g", "percent", "most", "bucket"), Integer),
            **dict.fromkeys(("largest",), BigInteger),
            **dict.fromkeys(("canaries", "ids", "buckets"), texts),
            **dict.fromkeys(("after", "upto", "id", "marked"), Text),
            "share": Float,
        }

    def statement(self, template: str) -> Statement:
        sql = template.format(**self._pieces)
        made = sqlalchemy.text(sql)
        types = [bindparam(name, type_=self._types[name]) for name in made._bindparams]  # noqa: SLF001 - no other way to ask which there are
        return Statement(lambda: made.bindparams(*types), self._driver)
