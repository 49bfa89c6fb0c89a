"""Rows that cannot move as they are: found out, put aside with the reason, and left where they are.

A row in quarantine is the legacy store's and is served from there as far as it can be. Nothing of it is ever unpickled
or otherwise run: it is read as JSON, or not at all.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import msgspec
import sqlalchemy

from session_ops.errors import InvalidSessionError, StoreUnavailableError
from session_ops.limits import check_owners, encode_text, is_id
from session_ops.records import Changed, Row, Session
from session_ops.stores.layout import MOST_ATTRIBUTES, pack_session
from session_ops.stores.legacy_errors import as_unprepared
from session_ops.stores.legacy_moves import BAD_ID, LARGEST
from session_ops.stores.legacy_prepared import Statement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from session_ops.migration.audit import Audit
    from session_ops.owned_access import OwnedStore
    from session_ops.stores.layout import Packed
    from session_ops.stores.legacy_database import Transaction

_EXACT: Final = 2**53
"""Above it a number in Redis' Lua is not exact."""

_PICKLES: Final = (b"\x80", b"gA", b"(dp", b"c__", b"ccopy_reg")
"""What pickled text and its base64 begin with (protocol 2 and later; 0 and 1)."""


class Broken(msgspec.Struct, frozen=True, kw_only=True):
    """A row that cannot move. `sha256` and `size` (bytes) are those of its data as the store gives it."""

    id: str
    reason: str
    sha256: str
    size: int


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A row in quarantine. `at` in ms."""

    id: str
    reason: str
    sha256: str
    size: int
    at: int
    run_id: str


def broken(session_id: str, reason: str, data: object) -> Broken:
    """A broken row, its content as a fingerprint."""
    content = data.encode() if isinstance(data, str) else bytes(data) if isinstance(data, bytes | memoryview) else b""
    return Broken(id=session_id, reason=reason, sha256=hashlib.sha256(content).hexdigest(), size=len(content))


def judge(columns: Sequence[Any]) -> Packed | Broken:
    """A claimed row (`PARTS`) as PUT takes it; or why it cannot move."""
    session_id, user_id, agent_id, created_at, updated_at, expires_at, revision, version, ttl, data = columns
    if not is_id(session_id):
        return broken(session_id, BAD_ID, data)
    if not 0 <= expires_at <= _EXACT:
        return broken(session_id, "expiry out of range", data)
    if not user_id:
        return broken(session_id, "no user", data)
    encoded = _encoded(data)
    if isinstance(encoded, str):
        return broken(session_id, encoded, data)
    fields, size = encoded
    reason: str | None = None
    try:
        check_owners(user_id, agent_id)
        if len(bytes.fromhex(revision)) != 8:
            reason = "revision"
    except InvalidSessionError as error:
        reason = str(error)
    except ValueError:
        reason = "revision"
    if reason is None and not (
        type(created_at) is type(updated_at) is type(version) is int
        and 0 <= created_at <= _EXACT
        and 0 <= updated_at <= _EXACT
        and 0 <= version <= _EXACT
    ):
        reason = "time or version out of range"
    if reason is None and ttl is not None and not 0 <= ttl < 2**32:
        reason = "ttl out of range"
    if reason is not None:
        return broken(session_id, reason, data)
    return pack_session(Changed(
        id=session_id, user_id=user_id, agent_id=agent_id, created_at=created_at, updated_at=updated_at,
        expires_at=expires_at, revision=revision, version=version, ttl=ttl,
    ), fields, size)  # fmt: skip


def to_mark(columns: Sequence[Any], generation: int) -> Row:
    """A row as MARK takes it, whatever its data: what is unfit in its bookkeeping does not matter to a marker."""
    session_id, user_id, agent_id, created_at, updated_at, expires_at, revision, version, ttl, _ = columns
    try:
        fit = revision if len(bytes.fromhex(revision)) == 8 else "0" * 16
    except ValueError:
        fit = "0" * 16
    session = Session(
        id=session_id,
        user_id=user_id,
        agent_id=agent_id,
        data={},
        created_at=min(max(created_at, 0), _EXACT),
        updated_at=min(max(updated_at, 0), _EXACT),
        expires_at=expires_at,
        revision=fit,
        version=version,
        ttl=ttl if ttl is not None and 0 <= ttl < 2**32 else None,
    )
    return Row(session=session, owner="redis", generation=generation, deleted=False, ended=False)


def _encoded(data: object) -> tuple[list[bytes], int] | str:
    """Names and values of the attributes and their bytes; or why the data is no JSON object that can be kept."""
    if not isinstance(data, str | bytes):
        return "data: missing" if data is None else "data: not text"
    content = data.encode() if isinstance(data, str) else data
    if len(content) > LARGEST:
        return "too large"
    try:
        fields, size = encode_text(content)
        return (fields, size) if len(fields) <= 2 * MOST_ATTRIBUTES else "data: too many attributes"
    except InvalidSessionError as error:
        return str(error)
    except UnicodeDecodeError:
        flaw = "data: not UTF-8"
    except msgspec.ValidationError:
        flaw = "data: not a JSON object"
    except RecursionError:
        flaw = "data: nested too deeply"
    except msgspec.DecodeError as error:
        flaw = "data: truncated JSON" if "truncated" in str(error) else "data: not JSON"
    return "data: pickled" if content.startswith(_PICKLES) else flaw


class Quarantine:
    """The table of rows that are put aside. Raises as `ControlStore` does."""

    def __init__(self, store: OwnedStore) -> None:
        self._database = store.database
        driver = store.database.engine.dialect
        table = driver.identifier_preparer.format_table(store.control_schema.quarantine)
        now = str(store.database.dialect.now().compile(dialect=driver))

        def sql(text: str) -> Statement:
            made = sqlalchemy.text(text.format(table=table, now=now))
            return Statement(lambda: made, driver)

        columns = ", ".join(Kept.__struct_fields__)
        self._put = sql(
            "INSERT INTO {table} (id, reason, sha256, size, at, run_id)"
            " VALUES (:id, :reason, :sha256, :size, {now}, :run) ON CONFLICT (id) DO NOTHING RETURNING id"
        )
        self._list = sql(f"SELECT {columns} FROM {{table}} WHERE id > :after ORDER BY id LIMIT :most")
        self._first = sql(f"SELECT {columns} FROM {{table}} ORDER BY id LIMIT :most")
        self._counts = sql("SELECT reason, count(*) AS rows FROM {table} GROUP BY reason ORDER BY 2 DESC, 1")
        self._retry = sql("DELETE FROM {table} WHERE id = :id RETURNING id")
        self._retry_all = sql("DELETE FROM {table} RETURNING id")

    async def put(self, one: Broken, run_id: str) -> bool:
        """Put a row aside; whether it was not there yet."""
        fields = msgspec.structs.asdict(one)
        return bool(await self._database.change(self._put, **fields, run=run_id))

    async def list(self, most: int, after: str | None = None) -> list[Kept]:
        """The rows by id, behind `after`."""
        rows = await (
            self._read(self._first, most=most) if after is None else self._read(self._list, most=most, after=after)
        )
        return [Kept(**row._asdict()) for row in rows]

    async def counts(self) -> dict[str, int]:
        """How many rows for which reason."""
        return {row[0]: row[1] for row in await self._read(self._counts)}

    async def retry(self, session_id: str | None, audit: Audit) -> int:
        """Let the next run try a row again; None: all of them. How many there were."""

        async def work(transaction: Transaction) -> int:
            if session_id is None:
                rows = await transaction.change(self._retry_all)
            else:
                rows = await transaction.change(self._retry, id=session_id)
            if rows:
                await audit.append(transaction, "quarantine retry", id=session_id, rows=len(rows))
            return len(rows)

        return await self._database.change_together(work)

    async def _read(self, statement: Statement, **parameters: Any) -> Sequence[Any]:
        try:
            return await self._database.read(statement, **parameters)
        except StoreUnavailableError as error:
            raise as_unprepared(error) from error
