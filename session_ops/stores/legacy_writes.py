"""Changes of a session in SQL: made by one statement, or refused with the reason."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Any, Final

from session_ops.errors import (
    RevisionConflictError,
    SessionNotFoundError,
    SessionTooLargeError,
    StoreUnavailableError,
)
from session_ops.limits import encode_attributes, encode_names, is_id
from session_ops.stores.legacy_errors import STORE
from session_ops.stores.legacy_rows import to_object

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Row

    from session_ops.limits import Limits
    from session_ops.stores.legacy_database import Database
    from session_ops.stores.legacy_prepared import Statement
    from session_ops.stores.legacy_statements import Statements

# A change that hit no row although its session now seems to allow it was overtaken twice: by what made it miss, and by
# what then undid that. More than a few times in a row is absurd.
_ROUNDS: Final = 8
_REVISION: Final = re.compile("[0-9a-f]{16}").fullmatch


class Writes:
    """The changes of one repository. One round trip each; a refusal takes a second one, to learn its reason."""

    def __init__(self, database: Database, statements: Statements, limits: Limits) -> None:
        self._database = database
        self._statements = statements
        self._limits = limits
        self._nothing = {"changes": "{}", "remove": database.dialect.texts(())}

    async def merge(
        self,
        session_id: str,
        changes: Mapping[str, Any],
        remove: Sequence[str],
        expected_revision: str | None,
        *,
        briefly: bool = False,
    ) -> Row[Any]:
        """Set and remove attributes; the row as MERGE answers it, `briefly` without the data."""
        removed = [name.decode() for name in encode_names(remove)]
        fields, _ = encode_attributes({name: changes[name] for name in changes if name not in removed}, self._limits)
        merged = {
            "changes": self._database.dialect.document(to_object(fields)),
            "remove": self._database.dialect.texts(removed),
        }
        statement = self._statements.merge_briefly if briefly else self._statements.merge
        return await self._change(statement, session_id, expected_revision, merged)

    async def replace(self, session_id: str, data: Mapping[str, Any], expected_revision: str | None) -> Row[Any]:
        """Set the attributes to `data`; the row as CAS answers it."""
        fields, _ = encode_attributes(data, self._limits)
        return await self._change(
            self._statements.cas,
            session_id,
            expected_revision,
            {"data": self._database.dialect.document(to_object(fields))},
        )

    async def end(self, session_id: str, expected_revision: str | None) -> bool:
        """End the session; whether this call ended it."""
        expected = _expected(expected_revision)
        for _ in range(_ROUNDS):
            if await self._database.change(self._statements.end, id=session_id, seen=None, expected=expected):
                return True
            if expected is None:
                return False
            found = await self._database.read(self._statements.why, id=session_id, **self._nothing)
            if not found:
                return False
            if found[0].revision != expected:
                raise RevisionConflictError(session_id, found[0].revision)
        raise StoreUnavailableError(STORE, "collision")

    async def _change(
        self, statement: Statement, session_id: str, expected_revision: str | None, written: Mapping[str, Any]
    ) -> Row[Any]:
        if not is_id(session_id):
            raise not_found()
        expected = _expected(expected_revision)
        for _ in range(_ROUNDS):
            rows = await self._database.change(
                statement, id=session_id, seen=None, expected=expected, revision=draw_revision(), **written
            )
            if rows:
                return rows[0]
            found = await self._database.read(
                self._statements.why,
                id=session_id,
                **{name: written.get(name, self._nothing[name]) for name in self._nothing},
            )
            if not found:
                raise not_found()
            if expected is not None and found[0].revision != expected:
                raise RevisionConflictError(session_id, found[0].revision)
            if not found[0].fits:
                raise SessionTooLargeError("data: the session would exceed its limits")
        raise StoreUnavailableError(STORE, "collision")


def draw_revision() -> str:
    """A new revision: 64 random bits."""
    return secrets.token_hex(8)


def not_found() -> SessionNotFoundError:
    """What every call says of a session that is not there."""
    return SessionNotFoundError("no live session has this id")


def _expected(revision: str | None) -> str | None:
    """An expected revision as a parameter; one that is malformed matches no session."""
    return revision if revision is None or _REVISION(revision) else "none"
