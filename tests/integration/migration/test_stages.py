"""The stage record on both databases, and `session-ops migrate stage` as an operator calls it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest

from session_ops.errors import HeldError, PreconditionError, StageConflictError
from session_ops.migration.stages import Stages
from tests.integration.migration.test_move_cli import Operator

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.migration.moving import Migration
    from tests.servers import RedisServer


def stages(migration: Migration, who: str = "ann@app1") -> Stages:
    return Stages(migration.store.database, migration.store.control_schema, who)


async def at(migration: Migration) -> tuple[str, int, list[tuple[str, str]]]:
    stage = await stages(migration).read()
    return stage.stage, stage.target.share, [(step.step, step.state) for step in stage.steps]


async def test_a_migration_goes_up_step_by_step_and_each_is_in_the_audit(migration: Migration) -> None:
    await migration.open(rows=1)
    ann = stages(migration)
    assert await at(migration) == ("prepared", 0, [])

    assert await ann.begin("canary", ["s1"])
    assert await at(migration) == ("canary", 0, [("canary", "begun")])
    assert await ann.end("canary", "reached")
    for step, name in (("1", "canary"), ("10", "bulk"), ("100", "bulk")):
        assert await ann.begin(step)
        assert (await at(migration))[0] == name
        assert await ann.end(step, "reached", run_id="r", facts='{"p99":0.1}')

    stage = await ann.read()
    assert (stage.stage, stage.target.share, stage.target.canaries) == ("soak", 100, ("s1",))
    assert [step.step for step in stage.steps] == ["100", "10", "1", "canary"]
    assert (stage.steps[0].run_id, stage.steps[0].facts) == ("r", '{"p99":0.1}')
    lines = [line async for line in migration.audit.lines(2)]
    assert [line.what for line in lines] == ["stage begun", "stage reached"] * 4
    assert msgspec.json.decode(lines[5].detail)["facts"] == {"p99": 0.1}
    assert (await migration.audit.check()).broken is None


async def test_a_step_that_is_reached_is_not_begun_again(migration: Migration) -> None:
    await migration.open(rows=1)
    ann = stages(migration)
    await ann.begin("10")
    await ann.end("10", "reached")
    before, lines = await ann.read(), (await migration.audit.check()).lines

    assert not await ann.begin("10")
    assert not await ann.end("10", "reached")

    assert (await ann.read(), (await migration.audit.check()).lines) == (before, lines)
    assert await ann.begin("10", ["s1"]), "another canary is something new"


async def test_a_step_that_was_stopped_is_gone_on_with_by_anybody(migration: Migration) -> None:
    await migration.open(rows=1)
    await stages(migration).begin("10")
    await stages(migration).end("10", "stopped", reason="p99 doubled")

    assert await stages(migration, "bob@app2").begin("10")

    [step] = (await stages(migration).read()).steps
    assert (step.step, step.state, step.reason, step.began_by) == ("10", "begun", None, "bob@app2")


async def test_a_percentage_never_goes_down(migration: Migration) -> None:
    await migration.open(rows=1)
    await stages(migration).begin("50")
    await stages(migration).end("50", "reached")

    for step in ("1", "10"):
        with pytest.raises(StageConflictError, match=r"is at 50 %.*rollback"):
            await stages(migration).begin(step)

    assert await at(migration) == ("bulk", 50, [("50", "reached")])


async def test_another_operator_is_kept_out_of_a_step_until_he_takes_over(migration: Migration) -> None:
    await migration.open(rows=1)
    await stages(migration).begin("1")
    bob = stages(migration, "bob@app2")

    with pytest.raises(HeldError, match="ann@app1 is in the middle of step 1"):
        await bob.begin("10")
    assert await stages(migration, "ann@app2").begin("1"), "the same person, from another host"
    assert await bob.begin("10", take_over=True)

    await migration.sql(f"UPDATE session_lock SET holder = 'carl@there:7', purpose = 'x', until = {2**60}")
    with pytest.raises(HeldError, match="carl@there:7"):
        await bob.begin("50")


async def test_of_two_operators_at_once_one_begins(migration: Migration) -> None:
    await migration.open(rows=1)

    done = await asyncio.gather(
        *(stages(migration, f"op{number}@app1").begin("10") for number in range(4)), return_exceptions=True
    )

    assert sorted(type(one).__name__ for one in done) == ["HeldError"] * 3 + ["bool"]
    assert (await at(migration))[2] == [("10", "begun")]
    assert (await migration.audit.check()).broken is None


async def test_only_the_step_that_was_begun_last_can_end_and_none_where_nothing_is_prepared(
    migration: Migration,
) -> None:
    await migration.open(rows=1)
    with pytest.raises(StageConflictError, match="the last step is none"):
        await stages(migration).end("1", "reached")
    await migration.sql("UPDATE session_stage SET stage = 'final'")
    with pytest.raises(StageConflictError, match="final"):
        await stages(migration).begin("1")
    await migration.sql("UPDATE session_stage SET stage = NULL")
    with pytest.raises(PreconditionError, match="migrate prepare"):
        await stages(migration).begin("1")


@pytest.fixture
def operator(tmp_path: Path, redis_server: RedisServer) -> Operator:
    return Operator(tmp_path, redis_server)


def test_gates_are_looked_at_and_a_closed_one_changes_nothing(operator: Operator) -> None:
    operator.sql("UPDATE session_stage SET use_redis = FALSE, percent = 0, canary_ids = '[]'")

    closed = operator("stage", "begin", "10", "--host", "app1", "--execute")
    assert (closed.exit_code, "gate hosts: app1 of the inventory does not report" in closed.stderr) == (3, True)
    assert operator.json("stage", "show")["steps"] == []

    operator.sql(
        "INSERT INTO session_hosts (host, pid, started_at, seen_at, generation)"
        f" SELECT 'app1', 1, 1, {2**60}, generation FROM session_control"
    )
    would = operator.json("stage", "begin", "10", "--host", "app1")
    assert (would["changed"], would["percent"], would["plan"]["to_redis"] > 10) == (True, 10, True)
    assert operator.json("stage", "show")["steps"] == []
    many = operator("stage", "begin", "10", "--most-broken", "0", "--host", "app1")
    assert many.exit_code == 0, many.output
    operator.sql("UPDATE visits SET attributes = 'nonsense', version = version + 1 WHERE sid = 's1'")
    many = operator("stage", "begin", "10", "--most-broken", "0", "--host", "app1", "--execute")
    assert (many.exit_code, "gate rows: 1 rows cannot move" in many.stderr) == (3, True)

    operator.environment["REDIS_PORT"] = "1"
    down = operator("stage", "begin", "10", "--execute")
    assert (down.exit_code, "gate redis: Redis does not answer" in down.stderr) == (3, True)


def test_the_status_shows_the_step_and_a_lower_percentage_has_the_code_of_a_conflict(operator: Operator) -> None:
    operator.sql(
        "INSERT INTO session_hosts (host, pid, started_at, seen_at, generation)"
        f" SELECT 'app1', 1, 1, {2**60}, generation FROM session_control"
    )
    assert operator.json("stage", "begin", "50", "--execute")["changed"]
    status = operator.json("status")
    assert (status["stage"], status["step"]["step"], status["step"]["state"]) == ("bulk", "50", "begun")
    assert "step 50 begun, begun by" in operator("status").stdout

    assert not operator("stage", "end", "50", "--reached").exit_code
    assert operator.json("status")["step"]["state"] == "begun"
    assert operator.json("stage", "end", "50", "--reached", "--facts", '{"requests": 3}', "--execute")["changed"]
    assert operator.json("stage", "show")["steps"][0]["facts"] == {"requests": 3}
    assert not operator.json("stage", "begin", "50", "--execute")["changed"]

    down = operator("stage", "begin", "10", "--execute")
    assert (down.exit_code, "the way back is the rollback" in down.stderr) == (4, True)
    assert operator("stage", "begin", "0").exit_code == 2
    assert operator("stage", "begin", "canary", "--id", "a b").exit_code == 2
    assert operator("stage", "end", "50").exit_code == 2
    assert operator("stage", "end", "50", "--reached", "--facts", "[]").exit_code == 2
