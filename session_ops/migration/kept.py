"""What the control tables said when the legacy store was retired, kept in Redis: stage, last run and audit.

Without a legacy store `migrate status` and `migrate audit` answer from here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from session_ops.errors import PreconditionError
from session_ops.migration.audit import Chain, Head, Line, Verdict
from session_ops.migration.run_records import Run  # noqa: TC001 - msgspec reads the annotations
from session_ops.migration.stages import Stage  # noqa: TC001
from session_ops.stores.layout import Names
from session_ops.stores.library import LIBRARY

if TYPE_CHECKING:
    from session_ops.migration.audit import Audit
    from session_ops.migration.runs import RunStore
    from session_ops.migration.stages import Stages
    from session_ops.owned_access import OwnedStore
    from session_ops.stores.connection import Connection

_KEY = b"migration"


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """The copy. `at`: when it was made, in ms of the legacy store."""

    at: int
    generation: int
    prefix: str
    stage: Stage
    run: Run | None
    lines: list[Line]
    head: Head

    def verdict(self, anchor: Head | None = None) -> Verdict:
        """Whether the audit's chain holds."""
        chain = Chain(anchor)
        wrong = next((found for line in self.lines if (found := chain.judge(line))), None) or chain.against(self.head)
        broken, reason = wrong or (None, None)
        return Verdict(lines=len(self.lines), head=self.head, broken=broken, reason=reason)


async def keep(store: OwnedStore, stages: Stages, runs: RunStore, audit: Audit) -> Kept:
    """Copy what the control tables say into Redis, which is final. Raises `StoreUnavailableError`."""
    row = await store.control_store.read()
    kept = Kept(
        at=row.now,
        generation=row.generation,
        prefix=row.prefix or "",
        stage=await stages.read(),
        run=await runs.latest(),
        lines=[line async for line in audit.lines()],
        head=await audit.head(),
    )
    names = Names(kept.prefix, 0)
    pin = b"*" + (row.pin or "").encode()
    text = msgspec.json.encode(kept)
    key = names.control + _KEY
    await store.connection.call("FCALL", f"{LIBRARY}_keep", 2, names.generation, key, text, pin, change=True)
    return kept


async def find_kept(connection: Connection, prefix: str) -> Kept | None:
    """The copy; None where there is none. One round trip."""
    text = await connection.call("GET", Names(prefix, 0).control + _KEY)
    return None if text is None else msgspec.json.decode(text, type=Kept)


async def read_kept(connection: Connection, prefix: str) -> Kept:
    """The copy. Raises `PreconditionError` where this Redis was never migrated to. One round trip."""
    kept = await find_kept(connection, prefix)
    if kept is None:
        raise PreconditionError(
            "LEGACY_DATABASE_URL: not set, and this Redis keeps no account of a migration: there is nothing to tell of"
        )
    return kept
