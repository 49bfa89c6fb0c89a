"""The legacy store is retired and comes back: nobody notices, nothing is lost, every interruption is gone on from."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import pytest_asyncio

from session_ops.bump import bump
from session_ops.errors import (
    MismatchError,
    OutcomeUnknownError,
    PreconditionError,
    RevisionConflictError,
    SessionExistsError,
    SessionNotFoundError,
    StoreUnavailableError,
    UnfinishedError,
)
from session_ops.migration.kept import read_kept
from session_ops.migration.retiring import Terms
from session_ops.records import NewSession
from tests.integration.migration.moving import Migration
from tests.integration.migration.retired import LEASE, Retiring
from tests.linearizability import History, Recorded, Rules, assert_linearizable
from tests.owned import as_administrator, load_functions
from tests.protocol.implementation.rig import Pause
from tests.protocol.stateful_steps import CrashError
from tests.servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.integration.migration.application import Application

FORTH = (
    "compare", "row hold", "key hold", "wait", "hosts hold", "move", "drain", "clean", "row final", "hosts final",
    "key final",
)  # fmt: skip
BACK = ("hosts final", "key hold", "key mirror", "row mirror", "hosts mirror", "compare")
RESTARTS = ("key hold", "move", "row final", "key final")


@pytest.fixture(autouse=True)
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("session_ops.bump.BEYOND_LEASE", 0.1)
    monkeypatch.setattr("session_ops.migration.outbox.LEASE", 1.0)


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that a test may kill."""
    server = RedisServer(tmp_path / "redis").start()
    yield server
    server.stop()


@pytest_asyncio.fixture
async def fleet(migration: Migration) -> AsyncIterator[Retiring]:
    """Two hosts on either database, not opened yet."""
    made = Retiring(migration)
    yield made
    await made.close()


@pytest_asyncio.fixture
async def mortal(on_postgresql: Application, own_redis: RedisServer) -> AsyncIterator[Retiring]:
    """Two hosts on PostgreSQL and a Redis of their own, 50 sessions."""
    migration = Migration(on_postgresql, own_redis)
    made = Retiring(migration)
    yield await made.open()
    await made.close()
    await migration.close()


class Interrupt:
    """Ends the process that takes the step `name`, before it is taken; or lets something happen then."""

    def __init__(self, name: str, act: Any = None) -> None:
        self._name, self._act = name, act
        self.taken: list[str] = []

    async def __call__(self, name: str) -> None:
        self.taken.append(name)
        if name != self._name or self.taken.count(name) > 1:
            return
        if self._act is None:
            raise CrashError(name)
        await self._act()


async def restart(fleet: Retiring) -> None:
    server = fleet.migration.server
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)
    while True:
        with suppress(StoreUnavailableError):
            await load_functions(server)
            return
        await asyncio.sleep(0.02)


class Users:
    """What they have been told. Calls that fail for a store's sake are repeated unless `patient` is off."""

    def __init__(self, fleet: Retiring) -> None:
        self._fleet = fleet
        self.known: dict[str, dict[str, Any] | None] = {f"s{number}": {"step": 1} for number in range(1, 51)}
        self._step = 1

    async def act(self) -> None:
        """Every host changes, makes and ends some."""
        for number, host in enumerate(self._fleet.hosts):
            self._step += 1
            live = [each for each, data in self.known.items() if data is not None]
            changed, ended = live[number], live[-1 - number]
            session = await self._again(host.repository.update, changed, changes={"step": self._step})
            self.known[changed] = session.data
            await self._again(host.repository.delete, ended)
            self.known[ended] = None
            new = f"new{self._step}"
            await self._again(host.repository.create, NewSession(id=new, user_id="ann", data={"step": 0}))
            self.known[new] = {"step": 0}

    async def look(self) -> None:
        """Every host answers what they have been told, one by one and in lists."""
        for host in self._fleet.hosts:
            for session_id, data in self.known.items():
                found = await self._again(host.repository.get, session_id)
                assert (found and found.data) == data, session_id
            listed, cursor = set(), None
            while True:
                page = await self._again(host.repository.list_sessions, limit=1000, cursor=cursor)
                listed |= {session.id for session in page.sessions}
                cursor = page.cursor
                if cursor is None:
                    break
            assert listed == {each for each, data in self.known.items() if data is not None}

    @staticmethod
    async def _again(call: Any, *arguments: Any, **named: Any) -> Any:
        for _ in range(100):
            try:
                return await call(*arguments, **named)
            except OutcomeUnknownError:
                raise
            except StoreUnavailableError:
                await asyncio.sleep(0.1)
        raise AssertionError("no answer for ten seconds")


async def forget_redis(fleet: Retiring) -> None:
    """A bump to no server: from here on the legacy store alone is asked."""
    store = fleet.migration.store.control_store
    seen = await store.read()
    await bump(store, seen, target=None, address=fleet.migration.address, partitions=1, lease=LEASE)


async def test_a_trip_to_final_and_back_takes_everything_along(fleet: Retiring) -> None:
    await fleet.open()
    users = Users(fleet)
    await users.act()
    done = await fleet.finalize()
    row = await fleet.migration.store.control_store.read()
    assert (done.changed, done.prefix, row.mode) == (True, row.prefix, "final")
    assert done.drained is not None
    assert done.drained.left == []
    rows = await fleet.migration.sql("SELECT count(*) FROM visits")
    await users.act()
    await users.act()
    await users.look()
    assert await fleet.migration.sql("SELECT count(*) FROM visits") == rows, "nothing is mirrored any more"
    assert not (await fleet.finalize()).changed, "a second time nothing changes"

    back = await fleet.mirror()
    assert back.changed
    assert (back.born, back.refilled) == (2, 0), "four were born in mode final, and two of them have ended"
    assert back.validated is not None
    assert back.validated.mismatches == []
    await users.act()
    await users.look()
    assert not (await fleet.mirror()).changed
    await forget_redis(fleet)
    await users.look()
    stage = await fleet.migration.sql("SELECT stage, percent FROM session_stage")
    assert [tuple(each) for each in stage] == [("soak", 100)]
    assert (await fleet.migration.audit.check()).broken is None


async def test_no_client_notices_either_way(fleet: Retiring) -> None:
    await fleet.open()
    history, over = History(), asyncio.Event()
    clients = [Recorded(host.repository, history, by=host.me[0], ttl=86_400) for host in fleet.hosts]
    names = [f"c{number}" for number in range(20)]
    failed: list[str] = []
    for name in names:
        await clients[0].create(NewSession(id=name, user_id="ann", data={"k0": 0}))

    async def load(seed: int) -> None:
        draw = random.Random(seed)  # noqa: S311 - no secret
        while not over.is_set():
            number, name = draw.randrange(2), draw.choice(names)
            client, host = clients[number], fleet.hosts[number]
            try:
                match draw.randrange(11):
                    case 0:
                        names.append(f"{name[:3]}-{seed}-{len(names)}")
                        await client.create(NewSession(id=names[-1], user_id="ann", data={"k0": 1}))
                        await host.repository.list_sessions(user_id="ann", limit=10)
                        await host.repository.delete_user(f"nobody{seed}")
                    case 1 if name != "c0":
                        await client.delete(name)
                    case 2 | 3 | 4:
                        await client.update(name, changes={f"k{draw.randrange(3)}": draw.randrange(1_000)})
                    case _:
                        await client.get(name)
            except (SessionNotFoundError, SessionExistsError, RevisionConflictError):
                pass
            except StoreUnavailableError as error:
                failed.append(str(error))
            await asyncio.sleep(0.01)

    running = [asyncio.ensure_future(load(seed)) for seed in range(4)]
    try:
        await asyncio.sleep(0.3)
        await fleet.finalize()
        await asyncio.sleep(0.5)
        await fleet.mirror()
        await asyncio.sleep(0.3)
    finally:
        over.set()
        await asyncio.gather(*running)
    assert failed == []
    await forget_redis(fleet)
    for name in names:
        for client in clients:
            with suppress(SessionNotFoundError):
                await client.get(name)
    assert_linearizable(history, Rules(repeated_ends=True, dirty_reads=True))


async def test_a_finalize_that_died_anywhere_is_gone_on_with(mortal: Retiring) -> None:
    users = Users(mortal)
    for step in FORTH:
        with pytest.raises(CrashError):
            await mortal.finalize(Interrupt(step))
        await users.act()
        await users.look()
    done = await mortal.finalize()
    assert (done.changed, (await mortal.control())[1]) == (True, "final")
    await users.act()
    await users.look()


async def test_a_hold_is_abandoned_and_sessions_move_as_before(mortal: Retiring) -> None:
    users = Users(mortal)
    with pytest.raises(CrashError):
        await mortal.finalize(Interrupt("clean"))
    assert (await mortal.control())[1] == "hold"
    assert await mortal.retirement().abandon()
    assert not await mortal.retirement().abandon()
    assert (await mortal.control())[1] == "mirror"
    await mortal.migration.want(0, on=False)
    await mortal.migration.move()
    assert (await mortal.migration.owners()).get("redis", 0) == 0
    await users.act()
    await users.look()


async def test_a_way_back_that_died_anywhere_is_gone_on_with(mortal: Retiring) -> None:
    users = Users(mortal)
    await mortal.finalize()
    for step in BACK:
        await users.act()
        with pytest.raises(CrashError):
            await mortal.mirror(Interrupt(step))
        await users.look()
    assert (await mortal.mirror()).changed
    await users.act()
    await forget_redis(mortal)
    await users.look()


@pytest.mark.parametrize("step", RESTARTS)
async def test_redis_is_restarted_on_the_way_to_final_and_nothing_is_lost(mortal: Retiring, step: str) -> None:
    users = Users(mortal)
    await users.act()

    async def at_once() -> None:
        await restart(mortal)

    with suppress(UnfinishedError, StoreUnavailableError, MismatchError):
        await mortal.finalize(Interrupt(step, at_once))
    await users.look()
    await users.act()
    if (await mortal.control())[1] == "final":
        await mortal.mirror()
        await users.act()
    await forget_redis(mortal)
    await users.look()


async def test_a_final_key_that_outlived_a_restart_is_not_taken_back(mortal: Retiring) -> None:
    users = Users(mortal)
    await users.act()
    with pytest.raises(CrashError):
        await mortal.finalize(Interrupt("key final"))
    row = await mortal.migration.store.control_store.read()
    key = f"generation:{row.prefix}:{{0}}"
    await as_administrator(mortal.migration.server, "SET", key, "final", "XX")  # and the operator's process died here
    await users.act()
    await asyncio.sleep(1.2)
    await restart(mortal)
    assert (await mortal.finalize()).changed
    assert (await mortal.control())[1] == "final"
    await users.look()


async def test_a_redis_that_was_restarted_in_final_is_pinned_again(mortal: Retiring) -> None:
    users = Users(mortal)
    await mortal.finalize()
    before = (await mortal.migration.store.control_store.read()).pin
    await users.act()
    await asyncio.sleep(1.2)
    await restart(mortal)
    await users.look()
    assert (await mortal.mirror()).changed
    assert (await mortal.migration.store.control_store.read()).pin != before
    await users.act()
    await users.look()
    await forget_redis(mortal)
    await users.look()


async def test_what_redis_has_lost_in_final_is_filled_in_from_the_row(mortal: Retiring) -> None:
    users = Users(mortal)
    await mortal.finalize()
    row = await mortal.migration.store.control_store.read()
    await as_administrator(mortal.migration.server, "DEL", f"session:{row.prefix}:{{0}}:s7")
    await asyncio.sleep(1.2)
    await restart(mortal)
    assert (await mortal.mirror()).refilled == 1
    await users.look()


async def test_a_restart_on_the_way_back_begins_it_again(mortal: Retiring) -> None:
    users = Users(mortal)
    await mortal.finalize()
    await users.act()
    await asyncio.sleep(1.2)

    async def at_once() -> None:
        await restart(mortal)

    with suppress(UnfinishedError, StoreUnavailableError):
        await mortal.mirror(Interrupt("key mirror", at_once))
    assert (await mortal.mirror()).changed
    await users.act()
    await users.look()
    await forget_redis(mortal)
    await users.look()


class Manager:
    """An agent manager that remembers what it has heard."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    async def attach(self, session: Any) -> None:
        del session

    async def release(self, ended: Any) -> None:
        self.heard.append(ended.id)

    async def state(self, session_id: str) -> Any:
        del session_id
        return "unknown"


async def clean(fleet: Retiring) -> None:
    """As a host's cleanup does."""
    store = fleet.migration.host()
    await store.steps.control()
    async with fleet.outbox(store) as outbox:
        await outbox.empty()


async def test_an_account_that_a_finalize_did_not_live_to_keep_is_kept_by_the_next(mortal: Retiring) -> None:
    first = await mortal.finalize()
    connection = mortal.migration.store.connection
    earlier = await read_kept(connection, first.prefix)
    assert (earlier.stage.stage, earlier.verdict().broken) == ("final", None)
    await mortal.mirror()
    await mortal.finalize()
    later = await read_kept(connection, first.prefix)
    assert later.stage.changed_at > earlier.stage.changed_at  # type: ignore[operator]

    key = f"control:{first.prefix}:{{0}}:migration"
    for left in (None, msgspec.json.encode(earlier)):  # it died before the second account was there
        await (as_administrator(mortal.migration.server, "DEL", key) if left is None
               else as_administrator(mortal.migration.server, "SET", key, left))  # fmt: skip
        assert (await mortal.retirement().look(Terms())).changed
        assert (await mortal.finalize()).changed
        assert await read_kept(connection, first.prefix) == msgspec.structs.replace(
            later, at=(await read_kept(connection, first.prefix)).at
        )
        assert not (await mortal.finalize()).changed


async def test_the_agent_manager_hears_of_every_end_whichever_store_kept_it(mortal: Retiring) -> None:
    mortal.agents = manager = Manager()
    one, two = (host.repository for host in mortal.hosts)
    await one.delete("s1")

    async def in_hold() -> None:
        await two.delete("s2")

    await mortal.finalize(Interrupt("clean", in_hold))
    assert {"s1", "s2"} <= set(manager.heard), "the rows that knew of it are not asked any more"
    await one.delete("s3")
    await one.create(NewSession(id="brief", user_id="ann"))
    await two.delete("brief")

    async def in_back() -> None:
        await two.delete("s4")

    await mortal.mirror(Interrupt("key mirror", in_back))
    assert {"s3", "brief"} <= set(manager.heard), "Redis' own outbox is not asked any more"
    await clean(mortal)
    assert {"s1", "s2", "s3", "s4", "brief"} <= set(manager.heard)


async def test_an_end_that_has_left_redis_before_its_row_says_so_is_told(mortal: Retiring) -> None:
    mortal.agents = manager = Manager()
    host = mortal.hosts[0]
    pause, ending = Pause(host.store.steps, "apply"), list[asyncio.Task[Any]]()

    async def half_ended() -> None:
        ending.append(asyncio.create_task(host.repository.delete("s6")))
        await pause.until(ending[0])
        asyncio.get_running_loop().call_later(LEASE / 2, pause.go.set)

    await mortal.finalize(Interrupt("clean", half_ended))
    assert await ending[0]
    await clean(mortal)
    assert "s6" in manager.heard


async def test_an_agent_manager_that_does_not_hear_stops_it_before_final(mortal: Retiring) -> None:
    class Deaf(Manager):
        async def release(self, ended: Any) -> None:
            del ended
            raise RuntimeError

    mortal.agents = Deaf()
    await mortal.hosts[0].repository.delete("s1")
    with pytest.raises(UnfinishedError, match="agent manager"):
        await mortal.finalize()
    assert (await mortal.control())[1] == "hold"


async def test_a_claim_that_nobody_put_is_put_by_the_drain(mortal: Retiring) -> None:
    migration = mortal.migration

    async def claimed_behind_the_mover() -> None:
        row = await migration.store.control_store.read()
        await as_administrator(migration.server, "DEL", f"session:{row.prefix}:{{0}}:s9")

    done = await mortal.finalize(Interrupt("drain", claimed_behind_the_mover))
    assert done.drained is not None
    assert done.drained.finished == 1
    await Users(mortal).look()


async def test_a_session_that_cannot_move_stops_it_unless_it_is_to_stay_behind(mortal: Retiring) -> None:
    await mortal.migration.sql(
        "UPDATE visits SET attributes = '[1]', owner = 'legacy', version = version + 1 WHERE sid = 's5'"
    )
    row = await mortal.migration.store.control_store.read()
    await as_administrator(mortal.migration.server, "DEL", f"session:{row.prefix}:{{0}}:s5")
    with pytest.raises(UnfinishedError, match="'s5'"):
        await mortal.finalize()
    assert (await mortal.control())[1] == "hold"
    with pytest.raises(PreconditionError, match="quarantine"):
        await mortal.finalize()
    assert (await mortal.finalize(leave_broken=True)).changed


@pytest.mark.parametrize(
    ("spoil", "terms", "said"),
    [
        ("", {"run_id": None}, "the run is to be named"),
        ("", {"run_id": "another"}, "'another' is not the last run"),
        ("", {"soaked": 3_600.0}, "1.0 h are left of 1 h"),
        ("UPDATE session_stage SET stage = 'bulk', percent = 50", {}, "take the migration to 100 % first"),
        ("UPDATE session_control SET redis = 'away'", {}, "the hosts have given Redis up"),
        ("UPDATE session_control SET closing = 'x', closing_at = 9000000000000", {}, "a bump is under way"),
        ("", {"hosts": ("app1", "app2", "app3")}, "app3 of the inventory does not report"),
    ],
)
async def test_it_is_refused_with_the_reason_and_nothing_is_changed(
    mortal: Retiring, spoil: str, terms: dict[str, Any], said: str
) -> None:
    if spoil:
        for host in mortal.hosts:
            await host.leave()
        await mortal.migration.sql(spoil)
    before = await mortal.migration.sql("SELECT generation, mode, closing FROM session_control")
    with pytest.raises(PreconditionError) as refused:
        await mortal.finalize(**terms)
    assert any(said in reason for reason in refused.value.reasons), refused.value.reasons
    assert await mortal.migration.sql("SELECT generation, mode, closing FROM session_control") == before


async def test_a_host_whose_flag_is_off_and_a_mismatch_stop_it(mortal: Retiring) -> None:
    from session_ops.settings import Flag  # noqa: PLC0415 - of this test alone

    mortal.hosts[1].flag = Flag(True, 50)
    await asyncio.sleep(LEASE)
    with pytest.raises(PreconditionError, match="the flag is not at 100 % on app2"):
        await mortal.finalize()
    mortal.hosts[1].flag = Flag(True, 100)
    await asyncio.sleep(LEASE)
    row = await mortal.migration.store.control_store.read()
    await as_administrator(mortal.migration.server, "HSET", f"session:{row.prefix}:{{0}}:s7", "step", "7")
    with pytest.raises(MismatchError, match="1 sessions"):
        await mortal.finalize()
    assert (await mortal.control())[1] == "mirror"


async def test_somebody_else_in_the_middle_of_a_step_is_not_pushed_aside(mortal: Retiring) -> None:
    from session_ops.errors import HeldError  # noqa: PLC0415 - of this test alone

    with pytest.raises(CrashError):
        await mortal.finalize(Interrupt("drain"))
    await mortal.migration.sql("UPDATE session_steps SET began_by = 'bob@elsewhere' WHERE step = 'final'")
    with pytest.raises(HeldError, match="bob@elsewhere"):
        await mortal.finalize()
    with pytest.raises(HeldError, match="bob@elsewhere"):
        await mortal.retirement().abandon()
    assert (await mortal.control())[1] == "hold", "what somebody else holds is not given up"
    terms = Terms(run_id=await mortal.run_id(), soaked=0.0)
    assert (await mortal.retirement().run(terms, take_over=True)).changed


async def test_there_is_no_way_back_from_where_nobody_has_been(mortal: Retiring) -> None:
    assert not (await mortal.mirror()).changed
    with pytest.raises(CrashError):
        await mortal.finalize(Interrupt("drain"))
    with pytest.raises(PreconditionError, match="--abandon"):
        await mortal.mirror()
    await mortal.finalize()
    with pytest.raises(PreconditionError, match="migrate mirror"):
        await mortal.retirement().abandon()
    row = await mortal.migration.store.control_store.read()
    await as_administrator(mortal.migration.server, "DEL", f"generation:{row.prefix}:{{0}}")
    with pytest.raises(PreconditionError, match="does not have generation"):
        await mortal.mirror()
