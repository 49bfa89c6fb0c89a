"""Every way in which two stores can disagree on a session, made on purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from session_ops.stores.layout import Names
from tests.conftest import administrator_connection

if TYPE_CHECKING:
    from session_ops.generation import RedisGeneration
    from tests.integration.migration.moving import Migration

REPAIRABLE: Final = {
    "s10": "not arrived",
    "s11": "not returned",
    "s12": "not ended",
    "s13": "mirror behind",
    "s14": "bucket",
}
BY_HAND: Final = {
    "s20": "content",
    "s21": "content",
    "s22": "redis behind",
    "s23": "two owners",
    "s24": "ended in the row",
    "s25": "no row",
    "s26": "unreadable",
    "s27": "unreadable",
    "s28": "content",
}
PLANTED: Final = REPAIRABLE | BY_HAND
SECRET: Final = "what nobody may read"


async def generation_of(migration: Migration) -> RedisGeneration:
    """The steps in Redis, with a lease."""
    await migration.store.steps.control()
    current = migration.store.generations.current
    assert current is not None
    migration.store.control.heard_redis(await current.probe())
    return current


async def plant(migration: Migration) -> None:
    """Make every mismatch, in a table whose sessions are all in Redis."""
    redis = await generation_of(migration)
    names = Names(redis.prefix, 0)
    returned = (await migration.store.steps.get("s11")).row
    assert returned is not None
    assert await redis.mark(returned) is not None
    assert await redis.kill("s12", None) is not None
    assert await redis.merge("s13", {"secret": SECRET}, (), None) is not None
    administrator = administrator_connection(migration.server)
    await administrator.call("DEL", names.session_key("s10"), change=True)
    await administrator.call("HSET", names.session_key("s26"), "", "no session", change=True)
    await administrator.close()
    empty = "'[]'" if migration.application.postgresql else "'nonsense'"
    async with migration.application.unguarded() as connection:
        for change, name in (
            ("bucket = bucket + 1", "s14"),
            (f'attributes = \'{{"secret": "{SECRET}"}}\'', "s20"),
            ("expires = expires + 1", "s21"),
            ("version = version + 1", "s22"),
            ("owner = 'legacy', version = version + 1", "s23"),
            ("deleted = TRUE, version = version + 1", "s24"),
            (f"attributes = {empty}", "s27"),
            ("uid = 'somebody else'", "s28"),
        ):
            table = migration.application.table
            await connection.exec_driver_sql(f"UPDATE {table} SET {change} WHERE sid = '{name}'")
        await connection.exec_driver_sql(f"DELETE FROM {migration.application.table} WHERE sid = 's25'")
