"""The audit on both databases: what is in it, what breaks it, and operators who write at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest

from session_ops.errors import StoreUnavailableError
from session_ops.migration.audit import Audit, Verdict
from session_ops.stores.control_schema import ControlSchema
from session_ops.stores.legacy_database import Database

if TYPE_CHECKING:
    from tests.integration.migration.application import Application
    from tests.integration.migration.moving import Migration


def audit_of(application: Application, who: str = "ann@here", database: Database | None = None) -> Audit:
    return Audit(database or application.database, ControlSchema(application.namespace), who)


async def written(application: Application, count: int = 5) -> Audit:
    await application.make(rows=1)
    await application.prepare()
    audit = audit_of(application)
    for number in range(count):
        await audit.add("bump", generation=number)
    return audit


async def spoil(application: Application, statement: str) -> None:
    prefix = f"{application.namespace}." if application.namespace else ""
    await application.sql(statement.format(audit=f"{prefix}session_audit", head=f"{prefix}session_audit_head"))


def broken(verdict: Verdict) -> tuple[int | None, str]:
    return verdict.broken, verdict.reason or ""


async def test_prepare_and_undo_are_in_it_and_undo_leaves_it(application: Application) -> None:
    await application.make(rows=3)
    await application.prepare()
    await application.undo(with_audit=False)
    await application.prepare()
    audit = audit_of(application)

    lines = [line async for line in audit.lines()]

    assert [line.what for line in lines] == [
        "prepare begun", "prepared", "undo begun", "undone", "prepare begun", "prepared",
    ]  # fmt: skip
    assert {line.who for line in lines} == {"ann"}
    assert (await audit.check()).broken is None
    assert "guard" in msgspec.json.decode(lines[1].detail)["steps"]
    await application.undo(with_audit=True)
    with pytest.raises(StoreUnavailableError, match="not prepared"):
        await audit.head()


async def test_undo_that_leaves_the_audit_has_nothing_left_to_do(application: Application) -> None:
    await application.make(rows=1)
    await application.prepare()
    await application.undo(with_audit=False)

    assert not (await application.undo(with_audit=False)).changed
    assert (await application.undo(with_audit=True)).changed


async def test_a_table_that_an_earlier_release_has_prepared_gets_its_head(application: Application) -> None:
    await application.make(rows=1)
    await application.prepare()
    await spoil(application, "DROP TABLE {head}")
    await spoil(application, "DELETE FROM {audit}")
    with pytest.raises(StoreUnavailableError, match="not prepared"):
        await audit_of(application).add("bump")

    await application.prepare()

    await audit_of(application).add("bump")
    assert (await audit_of(application).check()).broken is None


@pytest.mark.parametrize(
    ("statement", "line", "reason"),
    [
        ("UPDATE {audit} SET who = 'bob' WHERE seq = 4", 4, "it was changed"),
        ("UPDATE {audit} SET at = at + 1 WHERE seq = 7", 7, "it was changed"),
        ("DELETE FROM {audit} WHERE seq = 4", 4, "it is missing"),
        ("DELETE FROM {audit} WHERE seq = 7", 7, "the head ends with line 7"),
        ("DELETE FROM {audit}", 1, "the head ends with line 7"),
        ("UPDATE {head} SET seq = 5", 6, "the head ends with line 5"),
        ("UPDATE {head} SET hash = '{{hash}}'", 7, "another hash"),
    ],
)
async def test_what_was_done_to_it_is_named(application: Application, statement: str, line: int, reason: str) -> None:
    audit = await written(application)
    assert (await audit.check()).broken is None

    await spoil(application, statement)

    found, why = broken(await audit.check())
    assert (found, reason in why) == (line, True), why


async def test_a_broken_chain_goes_on_and_stays_broken_at_the_same_line(application: Application) -> None:
    audit = await written(application)
    await spoil(application, "DELETE FROM {audit} WHERE seq = 7")

    await audit.add("bump")
    await audit.add("bump")

    assert broken(await audit.check()) == (7, "it is missing; the next one is 8")


async def test_a_line_stands_or_falls_with_the_change_that_it_tells_of(application: Application) -> None:
    audit = await written(application, 1)

    async def fails(transaction: object) -> None:
        await audit.append(transaction, "bump")  # type: ignore[arg-type]
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await application.database.change_together(fails)

    assert (await audit.check()).lines == 3


async def test_operators_who_write_at_once_are_all_in_the_chain(application: Application) -> None:
    await written(application, 0)
    databases = [Database(application.url, deadline=20, pool_size=2) for _ in range(4)]
    audits = [audit_of(application, f"operator{number}@here", each) for number, each in enumerate(databases)]

    async def write(audit: Audit) -> None:
        for number in range(15):
            await audit.add("bump", number=number)

    await asyncio.gather(*(write(audit) for audit in audits))

    verdict = await audits[0].check()
    lines = [line async for line in audits[0].lines(2)]
    assert (verdict.lines, verdict.broken) == (2 + 60, None)
    assert len({line.who for line in lines}) == 4
    for who in {line.who for line in lines}:
        told = [msgspec.json.decode(line.detail)["number"] for line in lines if line.who == who]
        assert told == list(range(15))
    for database in databases:
        await database.close()


async def test_what_a_run_was_told_and_did_is_in_it(migration: Migration) -> None:
    await migration.open(rows=50)
    await migration.want(100)
    runs = migration.runs("bob@elsewhere:7")
    run = await runs.begin(join=False, take_over=False, rate=None, batch=None)
    await runs.set(run, paused=True, rate=None, batch=None)
    paused = await runs.read(run.run_id)
    await runs.set(paused, paused=False, rate=500, batch=None)
    mover = migration.mover(me="ann@elsewhere:8")
    await mover.run(take_over=True)

    audit = migration.audit
    lines = [line async for line in audit.lines(2)]

    assert [(line.who, line.what) for line in lines] == [
        ("bob@elsewhere:7", "lock taken"),
        ("bob@elsewhere:7", "run begun"),
        ("bob@elsewhere:7", "run paused"),
        ("bob@elsewhere:7", "run resumed"),
        ("bob@elsewhere:7", "run set"),
        ("ann@elsewhere:8", "lock taken over"),
        ("ann@elsewhere:8", "run continued"),
        ("ann@elsewhere:8", "run done"),
        ("ann@elsewhere:8", "lock released"),
    ]
    details = [msgspec.json.decode(line.detail) for line in lines]
    assert {detail["run"] for detail in details} == {run.run_id}
    assert (details[5]["earlier"], details[7]["moved_in"]) == ("bob@elsewhere:7", 50)
    assert (await audit.check()).broken is None
