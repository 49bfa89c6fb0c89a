"""The guard: triggers that refuse what a release does that does not know the ownership protocol.

Such a release changes a row and leaves its version, ends a session by deleting the row, or inserts one without its
bucket. Each of these, let through, would be undone by the next copy that comes from Redis, or undo it. What the
protocol itself does passes: every change raises `version`, the bookkeeping of ends (`told_at`) and `bucket` may change
alone, and only rows that have expired are removed.

The conditions stand in WHEN, so that a change that raises the version calls no function.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from session_ops.migration import facts_postgresql, facts_sqlite
from session_ops.migration.names import FUNCTION, PARTS, TRIGGERS, literal

if TYPE_CHECKING:
    from session_ops.migration.facts import Facts
    from session_ops.migration.names import Names

_REASONS = {
    "insert": "session-ops: an INSERT must set {bucket}",
    "update": "session-ops: an UPDATE must raise {version}",
    "delete": "session-ops: a DELETE must leave rows that have not expired",
    "truncate": "session-ops: rows that have not expired are not removed",
}
_HINT = "This table was prepared; the release that sent this does not know session ownership."


class Guard:
    """The triggers of one table."""

    def __init__(self, facts: Facts, names: Names) -> None:
        """`facts` of the table as it is now: what is missing is added by the time the guard is made."""
        self._names = names
        known = set(facts.columns) | {getattr(names.columns, part) for part in PARTS}
        self._columns = [names.plain(column) for column in sorted(known)]
        self._computed = [names.plain(column.name) for column in facts.columns.values() if column.computed]
        self.postgresql = names.driver.name == "postgresql"
        parts = {part: names.column(part) for part in ("bucket", "version")}
        self._reasons = {event: reason.format(**parts) for event, reason in _REASONS.items()}

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """What `Facts.guard` is where exactly these triggers are in place."""
        if not self.postgresql:
            return tuple(sorted(self._sqlite()))
        return tuple(sorted(f"{name}: {self._digest}" for name in TRIGGERS))

    def remove(self) -> list[str]:
        """Statements that remove whatever of it is there."""
        if not self.postgresql:
            return [f"DROP TRIGGER IF EXISTS {name}" for name in TRIGGERS]
        drops = [f"DROP TRIGGER IF EXISTS {name} ON {self._names.sessions}" for name in TRIGGERS]
        return [*drops, f"DROP FUNCTION IF EXISTS {self._names.quoted(FUNCTION)}()"]

    def make(self) -> list[str]:
        """Statements that put it in place, where nothing of it is there."""
        if not self.postgresql:
            return self._sqlite()
        comments = [f"COMMENT ON TRIGGER {name} ON {self._names.sessions} IS '{self._digest}'" for name in TRIGGERS]
        return [*self._postgresql(), *comments]

    @property
    def _digest(self) -> str:
        return hashlib.sha256("\n".join(self._postgresql()).encode()).hexdigest()[:16]

    def _postgresql(self) -> list[str]:
        names, function = self._names, self._names.quoted(FUNCTION)
        bucket, version, expires, told = map(names.column, ("bucket", "version", "expires_at", "told_at"))
        # The database has not computed its own columns yet when the trigger fires.
        free = " ".join(f"earlier.{column} := NEW.{column};" for column in (told, bucket, *self._computed))
        raised = "\n".join(
            f"  {'IF' if event == 'insert' else 'ELSIF'} TG_OP = '{event.upper()}' THEN\n"
            f"    RAISE EXCEPTION USING ERRCODE = '23000', MESSAGE = {literal(self._reasons[event])},"
            f" HINT = {literal(_HINT)};"
            for event in ("insert", "delete", "truncate")
        )
        body = (
            f"CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $guard$\n"
            "DECLARE earlier RECORD;\n"
            "BEGIN\n"
            f"{raised}\n"
            "  END IF;\n"
            f"  earlier := OLD; {free}\n"
            # The image of the row: json has no equality
            "  IF NEW *= earlier THEN RETURN NEW; END IF;\n"
            f"  RAISE EXCEPTION USING ERRCODE = '23000', MESSAGE = {literal(self._reasons['update'])},"
            f" HINT = {literal(_HINT)};\n"
            "END $guard$"
        )
        conditions = {
            "insert": f"NEW.{bucket} IS NULL",
            "update": f"(NEW.{version} > OLD.{version}) IS NOT TRUE",
            "delete": f"(OLD.{expires} <= {facts_postgresql.NOW}) IS NOT TRUE",
        }
        triggers = [
            f"CREATE TRIGGER _session_ops_{event} BEFORE {event.upper()} ON {names.sessions}"
            f" FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION {function}()"
            for event, condition in conditions.items()
        ]
        truncate = (
            f"CREATE TRIGGER _session_ops_truncate BEFORE TRUNCATE ON {names.sessions}"
            f" FOR EACH STATEMENT EXECUTE FUNCTION {function}()"
        )
        return [body, *triggers, truncate]

    def _sqlite(self) -> list[str]:
        names = self._names
        bucket, version, expires, told = map(names.column, ("bucket", "version", "expires_at", "told_at"))
        others = [column for column in self._columns if column not in (bucket, told, *self._computed)]
        changed = " OR ".join(f"NEW.{column} IS NOT OLD.{column}" for column in others)
        conditions = {
            "insert": f"NEW.{bucket} IS NULL",
            "update": f"(NEW.{version} > OLD.{version}) IS NOT 1 AND ({changed})"
            f" OR NEW.{bucket} IS NULL AND OLD.{bucket} IS NOT NULL",
            "delete": f"(OLD.{expires} <= {facts_sqlite.NOW}) IS NOT 1",
        }
        return [
            f"CREATE TRIGGER _session_ops_{event} BEFORE {event.upper()} ON {names.sessions} FOR EACH ROW"
            f" WHEN {condition} BEGIN SELECT RAISE(ABORT, {literal(self._reasons[event] + '. ' + _HINT)}); END"
            for event, condition in conditions.items()
        ]
