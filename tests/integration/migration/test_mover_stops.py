"""A mover that is killed, stopped, paused, fenced, short of memory or overtaken by a bump: nothing is lost."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from session_ops.errors import HeldError, PreconditionError, StoreUnavailableError
from session_ops.migration import runs as runs_module
from tests.integration.migration.moving import Migration
from tests.owned import as_administrator
from tests.protocol.stateful_steps import CrashError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.integration.migration.application import Application
    from tests.servers import RedisServer

STEPS = ("take", "claim", "put", "mark", "apply", "quarantine", "finish")


def killed_at(name: str, number: int = 1) -> Callable[[str], Awaitable[None]]:
    """A hook that kills the mover before its `number`th step of this name."""
    left = number

    async def before(step: str) -> None:
        nonlocal left
        left -= step == name
        if step == name and left == 0:
            raise CrashError(name)

    return before


def doing(name: str, action: Callable[[], Awaitable[object]], number: int = 1) -> Callable[[str], Awaitable[None]]:
    """A hook that does something else before the `number`th step of this name."""
    left = number

    async def before(step: str) -> None:
        nonlocal left
        left -= step == name
        if step == name and left == 0:
            await action()

    return before


async def broken_row(migration: Migration) -> None:
    empty = "'[]'" if migration.application.postgresql else "'nonsense'"
    await migration.sql(f"UPDATE visits SET attributes = {empty}, version = version + 1 WHERE sid = 's7'")


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("step", STEPS)
async def test_a_mover_that_dies_before_any_step_is_gone_on_with(migration: Migration, step: str, number: int) -> None:
    await migration.open(rows=600)
    await broken_row(migration)
    await migration.want(60)
    await migration.move(batch=50)
    await migration.want(30)

    with suppress(CrashError):
        await migration.mover(migration.host(), before=killed_at(step, number)).run(batch=50)
    await migration.want(90)
    died = False
    try:
        await migration.mover(migration.host(), before=killed_at(step, number)).run(batch=50)
    except CrashError:
        died = True
    done = await migration.move()

    assert done.state == "done"
    assert died or number > 1 or step in {"mark", "apply", "quarantine"}
    assert done.again <= 50
    assert await migration.disagreements() == []
    rows = await migration.sql("SELECT sid, owner, bucket FROM visits")
    assert {sid for sid, owner, bucket in rows if (owner == "redis") != (bucket < 90)} <= {"s7"}
    assert not (await migration.move()).changed


async def test_two_movers_share_a_run_and_a_third_operator_is_told_who_is_at_it(migration: Migration) -> None:
    await migration.open(rows=12_000)
    await migration.want(100)
    held: list[Exception] = []

    async def help_and_refuse() -> None:
        other = migration.mover(migration.host(), me="bob@elsewhere:2")
        tasks.append(asyncio.ensure_future(other.run(join=True)))
        with pytest.raises(HeldError) as caught:
            await migration.mover(migration.host(), me="eve@elsewhere:3").run()
        held.append(caught.value)

    tasks: list[asyncio.Future[Any]] = []
    first = await migration.mover(me="ann@elsewhere:1", before=doing("claim", help_and_refuse)).run()
    second = await tasks[0]

    assert "ann@elsewhere:1 is at work" in str(held[0])
    assert (first.state, second.state) == ("done", "done")
    assert first.moved_in + second.moved_in == 12_000
    assert second.moved_in > 1_000
    assert first.again + second.again == 0
    assert await migration.owners() == {"redis": 12_000}
    assert await migration.disagreements() == []


async def test_whoever_takes_over_fences_the_mover_that_was_thought_dead(migration: Migration) -> None:
    await migration.open(rows=500)
    await migration.want(100)

    async def take_over() -> None:
        await migration.mover(migration.host(), me="bob@elsewhere:2").run(take_over=True)

    first = await migration.mover(me="ann@elsewhere:1", before=doing("claim", take_over, 2)).run(batch=50)

    assert (first.state, first.reason) == ("stopped", "another one has taken over, or has ended the run")
    assert first.moved_in + first.again <= 100
    assert await migration.owners() == {"redis": 500}
    assert await migration.disagreements() == []


@pytest.mark.parametrize("further", [False, True])
async def test_a_claim_of_a_mover_without_the_lock_or_its_slice_is_taken_back(
    migration: Migration, further: bool
) -> None:
    await migration.open(rows=300)
    await migration.want(100)

    async def take_over() -> None:
        other = migration.runs("bob@elsewhere:2")
        run = await other.begin(join=False, take_over=True, rate=None, batch=None)
        if further:
            await other.take(run, 1)

    first = await migration.mover(me="ann@elsewhere:1", before=doing("claim", take_over)).run(batch=50)

    assert (first.state, first.moved_in) == ("stopped", 0)
    assert await migration.owners() == {"legacy": 300}


async def test_a_dead_holder_is_known_on_its_own_machine_and_by_time_on_others(
    migration: Migration, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migration.open(rows=200)
    await migration.want(100)
    with suppress(CrashError):
        await migration.mover(me="ann@elsewhere:1", before=killed_at("put")).run()
    with pytest.raises(HeldError):
        await migration.mover(migration.host()).run()

    await migration.sql("UPDATE session_lock SET until = 1")
    with pytest.raises(PreconditionError, match="without --join"):
        await migration.mover(migration.host()).run(join=True)
    done = await migration.mover(migration.host()).run()

    assert done.state == "done"
    assert await migration.owners() == {"redis": 200}
    assert runs_module.is_dead(f"ann@{socket.gethostname()}:4000000")
    assert not runs_module.is_dead("ann@elsewhere:4000000")


async def test_a_stop_ends_behind_the_batch_and_leaves_nothing_to_put(migration: Migration, tmp_path: Path) -> None:
    await migration.open(rows=500)
    await migration.want(100)
    file = tmp_path / "stop"

    async def touch() -> None:
        file.touch()

    stopped = await migration.mover(before=doing("put", touch, 2), stop_file=file).run(batch=50)
    unfinished = await migration.runs().latest()
    assert unfinished is not None
    slices = await migration.runs().slices(unfinished.run_id)

    assert (stopped.state, stopped.resumable) == ("stopped", True)
    assert "stop is there" in str(stopped.reason)
    assert 100 <= stopped.moved_in <= 150
    assert [part.claimed for part in slices] == [[]]
    assert await migration.disagreements() == []
    file.unlink()
    rest = await migration.move()
    assert (rest.run_id, rest.moved_in, rest.again) == (stopped.run_id, 500 - stopped.moved_in, 0)
    ended = await migration.runs().latest()
    assert ended is not None
    assert (ended.state, ended.moved_in) == ("done", 500)


async def test_a_run_waits_while_it_is_paused_and_keeps_the_limits_it_is_told(migration: Migration) -> None:
    await migration.open(rows=400)
    await migration.want(100)
    operator = migration.runs()
    said: list[str] = []

    def progress(step: str, *, done: int = 0, total: int | None = None, reason: str = "") -> None:
        said.append(reason)

    async def pause() -> None:
        run = await operator.latest()
        assert run is not None
        assert await operator.set(run, paused=True, rate=None, batch=20)

    moving = asyncio.ensure_future(migration.mover(before=doing("put", pause), progress=progress).run(batch=30))
    while not said or "paused" not in said[-1]:  # noqa: ASYNC110 - the mover tells nobody else
        await asyncio.sleep(0.02)
    waiting = await migration.owners()
    await asyncio.sleep(0.5)
    assert await migration.owners() == waiting
    run = await operator.latest()
    assert run is not None
    assert await operator.set(run, paused=False, rate=400, batch=20)
    done = await moving

    assert (done.state, done.moved_in) == ("done", 400)
    assert done.seconds > 1.3  # 400 at 400/s, and the pause
    assert any("the rate is limited to 400/s" in each for each in said)


async def test_a_bump_in_the_middle_stops_the_run_and_the_next_one_moves_all(migration: Migration) -> None:
    await migration.open(rows=500)
    await migration.want(100)

    stopped = await migration.mover(migration.host(), before=doing("put", migration.bump, 3)).run(batch=50)
    between = await migration.owners()
    done = await migration.move()

    assert (stopped.state, stopped.resumable) == ("stopped", True)
    assert "another generation" in str(stopped.reason)
    assert between == {"legacy": 500}
    assert (done.run_id, done.state, done.moved_in) == (stopped.run_id, "done", 500)
    assert await migration.disagreements() == []


async def test_where_redis_has_no_memory_left_the_batch_goes_back_and_the_run_says_so(migration: Migration) -> None:
    await migration.open(rows=600)
    await migration.want(100)

    async def fill() -> None:
        await as_administrator(migration.server, "CONFIG", "SET", "maxmemory", "1")

    try:
        stopped = await migration.mover(before=doing("put", fill, 3)).run(batch=50)
        assert (stopped.state, stopped.resumable) == ("stopped", False)
        assert "no memory left" in str(stopped.reason)
        assert await migration.owners() == {"redis": stopped.moved_in, "legacy": 600 - stopped.moved_in}
        assert stopped.moved_in == 100
        assert await migration.disagreements() == []
        await migration.want(100, on=False)
        assert (await migration.move()).moved_back == 100  # which needs no memory
        await migration.want(100)
    finally:
        await as_administrator(migration.server, "CONFIG", "SET", "maxmemory", "0")
    assert (await migration.move()).moved_in == 600
    assert await migration.disagreements() == []


async def test_a_redis_that_is_lost_ends_the_run_and_the_claims_are_finished_later(
    on_postgresql: Application, redis_server: RedisServer
) -> None:
    migration = await Migration(on_postgresql, redis_server).open(rows=300)
    await migration.want(100)
    away = doing("put", lambda: as_administrator(redis_server, "CONFIG", "SET", "min-replicas-to-write", "1"), 2)
    try:
        with pytest.raises(StoreUnavailableError, match="too few replicas"):
            await migration.mover(before=away).run(batch=50)
    finally:
        await as_administrator(redis_server, "CONFIG", "SET", "min-replicas-to-write", "0")
    claimed = (await migration.owners())["redis"]
    assert 50 < claimed <= 150  # one batch was put, the others are claimed alone

    done = await migration.move()

    assert done.moved_in == 250
    assert await migration.owners() == {"redis": 300}
    assert await migration.disagreements() == []
    await migration.close()
