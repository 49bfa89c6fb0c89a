"""What `rollback`, `migrate finalize` and `migrate mirror` work with: both stores, a mover and a validation."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any, Self

from session_ops.cli.migration_stores import Opened

if TYPE_CHECKING:
    from types import TracebackType

    from session_ops.cli.progress import StatusLine
    from session_ops.migration.mover import Mover
    from session_ops.migration.validation import Validator
    from session_ops.settings import Settings
    from session_ops.stores.legacy_database import Database
    from session_ops.stores.legacy_moves import Moves


class Work:
    """Use it as an async context manager. The table is read with time enough; `rate`: sessions per second at most."""

    def __init__(self, settings: Settings, status: StatusLine | None = None, rate: int | None = None) -> None:
        from session_ops.migration.outlook import DEADLINE  # noqa: PLC0415 - not needed for --help
        from session_ops.stores.legacy_database import Database  # noqa: PLC0415
        from session_ops.stores.legacy_moves import Moves  # noqa: PLC0415

        self.settings, self._status, self._rate = settings, status, rate
        self.opened = Opened(settings)
        self.database: Database = Database(settings.legacy_database_url, deadline=DEADLINE, pool_size=1)
        self.moves: Moves = Moves(self.database, self.opened.store.schema, self.opened.store.control_schema)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.database.close()
        await self.opened.__aexit__()

    def mover(self) -> Mover:
        """A mover that signals stop."""
        from session_ops.migration.mover import Mover  # noqa: PLC0415 - not needed for --help

        mover = Mover(self.opened.store, self.opened.runs, self.opened.moves, **self._options())
        _heed(mover)
        return mover

    def validator(self) -> Validator:
        """A validation that signals stop."""
        from session_ops.migration.validation import Validator  # noqa: PLC0415 - not needed for --help

        validator = Validator(self.opened.store, self.moves, **self._options())
        _heed(validator)
        return validator

    @property
    def progress(self) -> dict[str, Any]:
        """Where to say how far it is."""
        return {"progress": self._status} if self._status is not None else {}

    def _options(self) -> dict[str, Any]:
        from session_ops.migration.throttle import Throttle  # noqa: PLC0415 - not needed for --help

        throttle = Throttle()
        throttle.rate = self._rate
        lease, partitions = self.settings.session_lease, self.settings.session_partitions
        return {"lease": lease, "partitions": partitions, "throttle": throttle, **self.progress}


def _heed(work: Mover | Validator) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, work.stop, f"interrupted by {number.name}")
