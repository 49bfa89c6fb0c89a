"""The one place that says what a database's error means: nothing happened, or the outcome is unknown."""

from __future__ import annotations

import re
from typing import Final

from sqlalchemy import exc

from session_ops.errors import OutcomeUnknownError, OverloadedError, StoreUnavailableError

STORE: Final = "legacy"
_MISSING: Final = "schema missing"
_NO_ENTRY: Final = "authentication failed"

# SQLSTATEs of a server that has refused a statement (appendix A of PostgreSQL's manual): with one statement per
# transaction, a refused statement is a change that did not happen.
_REFUSED: Final = {
    "57014": "statement timeout",
    "55P03": "locked",
    "40001": "collision",
    "40P01": "deadlock",
    "25006": "read-only",
    "25P03": "timeout",
    "42P01": _MISSING,
    "42703": _MISSING,
    "42501": "permission denied",
    "28P01": _NO_ENTRY,
    "28000": _NO_ENTRY,
    "3D000": "database missing",
    "53100": "disk full",
    "53200": "out of memory",
    "53300": "too many connections",
    "57P03": "starting",
}

# Classes of SQLSTATEs that come when the server or the connection goes down, perhaps after the commit: 08 connection
# exceptions, 57P operator intervention, 58 system errors, XX internal errors.
_GOING_DOWN: Final = ("08", "57P", "58", "XX")

# libpq keeps no SQLSTATE of what happens before a session has begun; what it cannot read stays "unreachable".
_CONNECTING: Final = (
    (re.compile(r"authentication failed|no password supplied|role \"[^\"]*\" does not exist|no pg_hba"), _NO_ENTRY),
    (re.compile(r"database \"[^\"]*\" does not exist"), "database missing"),
    (re.compile(r"starting up|not yet accepting"), "starting"),
    (re.compile(r"shutting down"), "going down"),
    (re.compile(r"too many (clients|connections)|remaining connection slots"), "too many connections"),
    (re.compile(r"session is read-only|server is in hot standby"), "read-only"),
)

# Primary result codes of SQLite (sqlite.org/rescode.html). A statement that ends in one of these was rolled back.
_SQLITE: Final = {
    1: "statement refused",
    3: "permission denied",
    5: "locked",
    6: "locked",
    8: "read-only",
    13: "disk full",
    14: "unreachable",
    26: "not a database",
}
_SQLITE_ERROR: Final = 1
_SQLITE_CONSTRAINT: Final = 19

NOT_PREPARED: Final = "not prepared, see `session-ops migrate prepare`"
"""The reason of a legacy store without our tables and columns, or without their rows."""

DEMOTED: Final = ("read-only",)
"""Reasons after which a connection is of no more use: the server behind it is no primary any more."""


def classify(error: BaseException, *, changing: bool, sent: bool) -> StoreUnavailableError:
    """Say what `error` means for the caller.

    `changing`: the statement changes something; `sent`: it may have reached the database.
    """
    if isinstance(error, exc.TimeoutError):
        return OverloadedError(STORE, "busy")
    known, reason = _reason(error)
    if changing and sent and not known:
        return OutcomeUnknownError(STORE, reason)
    return StoreUnavailableError(STORE, reason)


def as_unprepared(error: StoreUnavailableError) -> StoreUnavailableError:
    """The error with the next step in its reason, where tables or columns are missing."""
    return StoreUnavailableError(STORE, NOT_PREPARED) if error.reason == _MISSING else error


def _reason(error: BaseException) -> tuple[bool, str]:
    """Whether the database itself has said that nothing happened, and the reason."""
    original = error.orig if isinstance(error, exc.DBAPIError) and error.orig is not None else error
    state = getattr(original, "sqlstate", None)
    if isinstance(state, str):
        if state in _REFUSED:
            return True, _REFUSED[state]
        return not state.startswith(_GOING_DOWN), "going down" if state.startswith("57P") else f"sqlstate {state}"
    code = getattr(original, "sqlite_errorcode", None)
    if isinstance(code, int):
        primary = code & 0xFF
        if primary == _SQLITE_ERROR and str(original).startswith("no such"):
            return True, _MISSING
        return primary in _SQLITE or primary == _SQLITE_CONSTRAINT, _SQLITE.get(primary, f"sqlite {primary}")
    if isinstance(error, TimeoutError):
        return False, "timeout"
    said = str(original)
    return False, next((reason for words, reason in _CONNECTING if words.search(said)), "unreachable")
