"""What the commands of `session-ops migrate` share: both stores, and the runs of the mover."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from session_ops.cli.frame import PRECONDITION, fail, operator, settings_or_exit
from session_ops.errors import PreconditionError

if TYPE_CHECKING:
    from session_ops.migration.audit import Audit
    from session_ops.migration.kept import Kept
    from session_ops.migration.run_records import Target
    from session_ops.migration.runs import RunStore
    from session_ops.migration.stages import Stages
    from session_ops.owned_access import OwnedStore
    from session_ops.settings import Flag, Settings


def with_legacy() -> Settings:
    """The settings; exits with 3 where there is no legacy store."""
    settings = settings_or_exit()
    if not settings.legacy_database_url:
        retired = (
            settings.session_generation_prefix and "; where it was retired, bring it back first (-e migrate_to=mirror)"
        )
        fail(f"LEGACY_DATABASE_URL: not set; without a legacy store there is nothing to move{retired}", PRECONDITION)
    return settings


async def kept_in_redis(settings: Settings) -> Kept:
    """What Redis keeps of the migration, where there is no legacy store any more. Raises `PreconditionError`."""
    from session_ops.migration.kept import read_kept  # noqa: PLC0415 - not needed for --help
    from session_ops.redis_access import connect  # noqa: PLC0415

    prefix = settings.session_generation_prefix
    if not prefix:
        raise PreconditionError("LEGACY_DATABASE_URL: not set, and no SESSION_GENERATION_PREFIX either: nothing to ask")
    connection = connect(settings)
    try:
        return await read_kept(connection, prefix)
    finally:
        await connection.close()


class Opened:
    """What the commands share: both stores, and the runs. The flag is that of the stage row, once it was read."""

    def __init__(self, settings: Settings) -> None:
        from session_ops.migration.audit import Audit  # noqa: PLC0415
        from session_ops.migration.runs import RunStore  # noqa: PLC0415 - not needed for --help
        from session_ops.migration.stages import Stages  # noqa: PLC0415
        from session_ops.owned_access import make_owned  # noqa: PLC0415
        from session_ops.redis_access import connect  # noqa: PLC0415
        from session_ops.settings import Flag  # noqa: PLC0415
        from session_ops.stores.legacy_moves import Moves  # noqa: PLC0415

        self.flag: Flag = Flag(use_redis_sessions=False, session_redis_percent=0)
        self._connection = connect(settings)
        # A tool moves on nobody's behalf who would wait for it
        self.store: OwnedStore = make_owned(settings, self._connection, lambda: self.flag, moves_per_second=1e9)
        self.moves = Moves(self.store.database, self.store.schema, self.store.control_schema)
        who = operator(settings)
        self.runs: RunStore = RunStore(self.store, self.moves, f"{who}:{os.getpid()}")
        self.audit: Audit = Audit(self.store.database, self.store.control_schema, who)
        self.stages: Stages = Stages(self.store.database, self.store.control_schema, who)

    async def target(self) -> Target:
        """What the stage row wants, and from here on the flag of these stores."""
        from session_ops.settings import Flag  # noqa: PLC0415

        target = await self.runs.target()
        self.flag = Flag(target.use_redis, target.percent)
        return target

    async def __aenter__(self) -> Opened:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.store.close()
        await self._connection.close()
