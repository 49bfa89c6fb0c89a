"""The steps of a rehearsal, as data: the playbook that an operator runs, what is done to the fleet first, and what must
hold meanwhile and behind it.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.chaos.faults import FALLBACK_AFTER, LEASE, START_REDIS


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step. Unless it `loses_redis` no request may fail in it."""

    name: str
    playbook: str
    arguments: tuple[str, ...] = ()
    on_redis: str = ""
    """Shell on the Redis host, before the playbook."""
    half_way: bool = False
    """The operator presses Ctrl-C once half of the sessions that the step moves have moved."""
    changes: bool = True
    """Whether the playbook has anything to change."""
    percent: int | None = None
    """How many of the sessions have their home in Redis behind it; None: it is left half-way."""
    silence: float = 1.5
    """The longest time in seconds in which no request at all is acknowledged."""
    one_session: float = 3.0
    """The same of the reads or the changes of any single session."""
    loses_redis: bool = False


def migrate(to: str, name: str = "", *, on_redis: str = "", more: tuple[str, ...] = ()) -> Step:
    """A step of the migration, to a percentage."""
    arguments = ("-e", f"migrate_to={to}", *more)
    return Step(
        name=name or f"to {to} %", playbook="migrate.yml", arguments=arguments, percent=int(to), on_redis=on_redis
    )


PLAN = Step(name="plan", playbook="migrate.yml", percent=0, changes=False)
HALF_WAY = Step(name="rollback, stopped half-way", playbook="rollback.yml", half_way=True)
AGAIN = migrate("100", "to 100 % from half-way", more=("-e", "migrate_take_over=true"))
DESTROYED = Step(
    name="Redis destroyed, rollback",
    playbook="rollback.yml",
    arguments=("-e", "redis_lost=true"),
    on_redis="systemctl stop redis-server\nrm -rf /var/lib/redis/*",
    percent=0,
    # The hosts give Redis up by themselves where the operator is later. Sessions of the legacy store's go on.
    one_session=FALLBACK_AFTER + LEASE + 4,
    loses_redis=True,
)
NEW_REDIS = migrate("100", "to 100 % in an empty Redis", on_redis=START_REDIS)
ROLLBACK = Step(name="rollback", playbook="rollback.yml", percent=0)
TWICE = Step(name="rollback, once more", playbook="rollback.yml", percent=0, changes=False)

# What is to come between them: finalize.yml, and `migrate_to=mirror` behind it.
LONG = [PLAN, migrate("1"), migrate("10"), migrate("100"), HALF_WAY, AGAIN, DESTROYED, NEW_REDIS, ROLLBACK, TWICE]
SHORT = [migrate("100"), DESTROYED, migrate("10", "to 10 % in an empty Redis", on_redis=START_REDIS), ROLLBACK, TWICE]
