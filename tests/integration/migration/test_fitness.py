"""Tables that cannot be prepared: refused with what to do, and nothing is changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import make_url

from session_ops.errors import PreconditionError
from session_ops.migration.prepare import Preparation
from session_ops.stores.legacy_database import Database
from tests.integration.migration.application import COLUMNS, FAR

if TYPE_CHECKING:
    from tests.integration.migration.application import Application

GOOD = "sid VARCHAR(64) PRIMARY KEY, uid TEXT NOT NULL, attributes {data} NOT NULL, expires BIGINT NOT NULL"


def table(**changes: str) -> str:
    """The application's table with some columns otherwise; a new name adds one."""
    columns = dict(part.split(" ", 1) for part in GOOD.split(", "))
    columns |= changes
    return f"CREATE TABLE {{table}} ({', '.join(f'{name} {kind}' for name, kind in columns.items() if kind)})"


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (table(sid="VARCHAR(64)"), "id: sid is no key by itself; make it the primary key"),
        (table(sid="VARCHAR(64) UNIQUE"), "id: sid is no key by itself"),
        (table(sid="VARCHAR(20) PRIMARY KEY"), "id: column sid is .*20.*; it must take 32 characters"),
        (table(sid="INTEGER PRIMARY KEY"), "id: column sid is .*; it must be text"),
        (table(uid="INTEGER NOT NULL"), "user_id: column uid is .*; it must be text"),
        (table(uid=""), "user_id: .* has no column uid; name the one that holds it in LEGACY_COLUMNS, user_id=..."),
        (
            table(expires="TIMESTAMP NOT NULL"),
            "expires_at: column expires is (?i:timestamp).*milliseconds, UTC: add a big",
        ),
        (table(attributes="BYTEA NOT NULL"), "data: column attributes is (?i:bytea); it must be jsonb, json or text"),
        (
            table(created_at="TIMESTAMP"),
            "created_at: .* let prepare add another, LEGACY_COLUMNS created_at=created_at_ms",
        ),
        (table(created_at="BIGINT"), "created_at: column created_at may be NULL; fill it and make it NOT NULL"),
        (table(owner="TEXT"), "owner: the table has a column owner of its own; .* owner=session_owner"),
        (table(version="BIGINT NOT NULL DEFAULT 1"), "version: the table has a column version of its own"),
        (table(ip="TEXT NOT NULL"), "column ip is NOT NULL, and only the application fills it; give it a default"),
    ],
)
async def test_a_table_that_does_not_fit_is_refused_with_what_to_do(
    application: Application, made: str, reason: str
) -> None:
    await application.make(table=made)
    before = await application.shape()

    with pytest.raises(PreconditionError, match=reason):
        await application.prepare()

    assert await application.shape() == before


async def test_everything_that_is_in_the_way_is_said_at_once(application: Application) -> None:
    await application.make(table=table(uid="INTEGER", ip="TEXT NOT NULL", ttl="INTEGER"))

    with pytest.raises(PreconditionError) as refused:
        await application.prepare()

    assert [reason.split(" ")[0] for reason in refused.value.reasons] == ["user_id:", "ttl:", "column"]


async def test_a_column_that_means_the_same_is_used_where_the_operator_says_so(application: Application) -> None:
    await application.make(rows=1, table=table(deleted="BOOLEAN NOT NULL DEFAULT FALSE"))
    await application.sql("INSERT INTO visits VALUES ('gone', 'ann', '{}', " + str(FAR) + ", TRUE)")

    await application.preparation(f"{COLUMNS},deleted=deleted").run(execute=True)

    assert await application.repository().get("gone") is None
    assert await application.repository().get("s1")
    await application.preparation(f"{COLUMNS},deleted=deleted").undo(execute=True)
    assert len(await application.sql("SELECT sid, deleted FROM visits")) == 2


async def test_an_unique_column_is_as_good_a_key(application: Application) -> None:
    number = "SERIAL PRIMARY KEY" if application.postgresql else "INTEGER PRIMARY KEY"
    await application.make(rows=3, table=table(sid="VARCHAR(64) NOT NULL UNIQUE", number=number))

    await application.prepare()

    assert await application.repository().get("s2")


async def test_seconds_are_not_taken_for_milliseconds(application: Application) -> None:
    await application.make()
    await application.sql("INSERT INTO visits (sid, uid, attributes, expires) VALUES ('s', 'ann', '{}', 1900000000)")

    with pytest.raises(PreconditionError, match="expires_at: column expires seems to hold seconds"):
        await application.prepare()


async def test_a_view_is_no_table(application: Application) -> None:
    await application.sql("CREATE VIEW visits AS SELECT 1 AS sid")

    with pytest.raises(PreconditionError, match="only an ordinary table can be prepared"):
        await application.prepare()


async def test_an_index_of_the_applications_own_is_not_taken_for_ours(application: Application) -> None:
    await application.make()
    await application.sql("CREATE INDEX visits_user ON visits (ip)")

    with pytest.raises(PreconditionError, match="ALTER INDEX visits_user RENAME"):
        await application.prepare()


async def test_another_table_is_not_prepared_beside_the_first(application: Application) -> None:
    await application.make()
    await application.prepare()
    await application.sql(f"CREATE TABLE {application.table}2 (sid TEXT)".replace("visits", "other"))
    other = Preparation(application.database, application.table.replace("visits", "other2"), COLUMNS, who="ann")

    with pytest.raises(PreconditionError, match="visits was prepared here"):
        await other.run(execute=True)


async def test_sqlite_has_no_schemas(on_sqlite: Application) -> None:
    with pytest.raises(PreconditionError, match="name the table alone"):
        await Preparation(on_sqlite.database, "main.visits", COLUMNS, who="ann").run(execute=False)


async def test_who_may_not_change_the_table_is_told_whom_to_ask(on_postgresql: Application) -> None:
    namespace = on_postgresql.namespace
    await on_postgresql.make(rows=1)
    await on_postgresql.sql(
        f"CREATE ROLE {namespace}_clerk LOGIN",
        f"GRANT USAGE ON SCHEMA {namespace} TO {namespace}_clerk",
        f"GRANT ALL ON {on_postgresql.table} TO {namespace}_clerk",
    )
    database = Database(make_url(on_postgresql.url).set(username=f"{namespace}_clerk").render_as_string(), deadline=10)
    try:
        with pytest.raises(PreconditionError) as refused:
            await Preparation(database, on_postgresql.table, COLUMNS, who="ann").run(execute=True)
    finally:
        await database.close()
        await on_postgresql.sql(f"DROP OWNED BY {namespace}_clerk", f"DROP ROLE {namespace}_clerk")

    assert refused.value.reasons[0] == (
        f"no right to make tables in schema {namespace}: GRANT CREATE ON SCHEMA {namespace} TO {namespace}_clerk"
    )
    assert refused.value.reasons[1] == (
        f"no right to change {on_postgresql.table}: it belongs to session_ops;"
        f" GRANT session_ops TO {namespace}_clerk, or run this as the owner"
    )


async def test_a_table_in_another_schema_has_to_be_named_with_it(on_postgresql: Application) -> None:
    await on_postgresql.make()
    url = make_url(on_postgresql.url).update_query_dict(
        {"options": f"-csearch_path=pg_temp,public,{on_postgresql.namespace}"}
    )
    database = Database(url.render_as_string(hide_password=False), deadline=10)
    try:
        with pytest.raises(PreconditionError, match=f"name it with its schema, {on_postgresql.table}"):
            await Preparation(database, "visits", COLUMNS, who="ann").run(execute=True)
        with pytest.raises(PreconditionError, match="there is no schema nowhere"):
            await Preparation(database, "nowhere.visits", COLUMNS, who="ann").run(execute=True)
    finally:
        await database.close()
