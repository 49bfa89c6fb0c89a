"""The lease on real links and clocks: what arrives too late does not count, whatever the network or the process did."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from session_ops.bump import bump
from session_ops.errors import StoreUnavailableError
from session_ops.records import NewSession
from tests.owned import OFF, ON, Host
from tests.protocol.slow_link import slow_link

if TYPE_CHECKING:
    from tests.protocol.conftest import OpenFleet
    from tests.protocol.stateful_fleet import Fleet

LEASE = 1.0
ROOT = Path(__file__).parents[2]


async def begin_generation(fleet: Fleet) -> None:
    """An operator's bump, with its whole wait."""
    host = fleet.hosts[0]
    store = host.store.control_store
    await bump(store, await store.read(), target=host.connection, address=fleet.address, partitions=1, lease=LEASE)


@pytest.mark.parametrize("ahead", [2.5, -2.5])
async def test_no_lease_while_the_clocks_of_the_stores_differ(ahead: float, open_fleet: OpenFleet) -> None:
    fleet = await open_fleet()
    host, other = fleet.hosts
    await host.repository.create(NewSession(id="theirs", user_id="ann", data={"k": 1}))
    other.flag = OFF
    await other.repository.create(NewSession(id="ours", user_id="ann", data={"k": 2}))

    def hear(seconds: float) -> None:
        now = host.store.control.legacy_now()
        assert now is not None
        host.store.control.heard_redis(now + int(seconds * 1000))

    hear(ahead)
    for call in (host.repository.get("theirs"), host.repository.update("theirs", changes={"k": 3})):
        with pytest.raises(StoreUnavailableError, match="no lease"):
            await call
    # What the legacy store owns is served, and does not move
    changed = await host.repository.update("ours", changes={"k": 4})
    assert changed.data == {"k": 4}
    assert (await fleet.stores.look("ours")).redis_owns is False
    assert (await fleet.stores.look("theirs")).value() == {"k": 1}
    hear(ahead * 0.7)
    found = await host.repository.get("theirs")
    assert found is not None
    assert found.data == {"k": 1}


@pytest.mark.parametrize("delay", [0.3, 1.4])
async def test_an_answer_counts_only_if_it_arrives_within_the_lease(delay: float, open_fleet: OpenFleet) -> None:
    fleet = await open_fleet(lease=LEASE)
    await fleet.hosts[0].repository.create(NewSession(id="s", user_id="ann", data={"k": 1}))
    async with slow_link(fleet.server.port, delay) as port:
        far = Host(8, f"127.0.0.1:{port}", fleet.url, lease=LEASE, legacy_deadline=2.0, redis_deadline=5.0)
        try:
            await far.store.steps.control()
            redis = far.store.generations.current
            assert redis is not None
            await redis.probe()  # the connection is there
            if delay < LEASE:
                found = await far.repository.get("s")
                assert found is not None
                assert found.data == {"k": 1}
            else:
                with pytest.raises(StoreUnavailableError, match="no lease"):
                    await far.repository.get("s")
        finally:
            await far.close()


async def test_a_read_over_a_slow_link_does_not_answer_what_a_bump_has_made_old(open_fleet: OpenFleet) -> None:
    fleet = await open_fleet(lease=LEASE)
    near = fleet.hosts[0]
    await near.repository.create(NewSession(id="s", user_id="ann", data={"k": "old"}))
    # Redis answers at once; the answer is under way for longer than the bump takes
    async with slow_link(fleet.server.port, 3.5) as port:
        far = Host(8, f"127.0.0.1:{port}", fleet.url, lease=LEASE, legacy_deadline=2.0, redis_deadline=20.0)
        try:
            await far.store.steps.control()
            redis = far.store.generations.current
            assert redis is not None
            reading = asyncio.ensure_future(far.repository.get("s"))
            await asyncio.sleep(0.1)
            far.flag = OFF  # when the answer is there it need not move the session over this link
            await begin_generation(fleet)
            near.flag = OFF
            await near.repository.update("s", changes={"k": "new"})
            found = await reading
            assert found is not None
            assert found.data == {"k": "new"}
        finally:
            await far.close()


def begin_process(fleet: Fleet, operation: str) -> subprocess.Popen[str]:
    """A host of its own, with one operation to run."""
    command = [sys.executable, "-m", "tests.protocol.stopped_host", fleet.address, fleet.url, str(LEASE), operation]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def state_of(process: subprocess.Popen[str]) -> str:
    """The kernel's letter for it; T: stopped."""
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]


async def stopped_in(fleet: Fleet, operation: str) -> subprocess.Popen[str]:
    """A process that has stopped in the middle of an operation."""
    process = begin_process(fleet, operation)
    limit = time.monotonic() + 20
    while state_of(process) != "T":
        assert state_of(process) != "Z", "it has ended without stopping"
        assert time.monotonic() < limit, "it did not stop"
        await asyncio.sleep(0.02)
    return process


async def told(process: subprocess.Popen[str]) -> str:
    """What its caller is told, once it goes on."""
    os.kill(process.pid, signal.SIGCONT)
    said, _ = await asyncio.to_thread(process.communicate, timeout=20)
    return said.splitlines()[-1]


async def test_the_late_mirror_of_a_stopped_process_is_refused_after_a_bump(open_fleet: OpenFleet) -> None:
    fleet = await open_fleet(lease=LEASE)
    host = fleet.hosts[0]
    await host.repository.create(NewSession(id="s", user_id="ann", data={"k": 0}))
    for number in (1, 2):
        await host.repository.update("s", changes={"k": number})
    process = await stopped_in(fleet, "update")
    before = await fleet.stores.look("s")
    assert before.record is not None
    await begin_generation(fleet)
    host.flag = OFF
    await host.repository.update("s", changes={"k": "acknowledged"})
    row = (await fleet.stores.look("s")).row
    assert row is not None
    # By its version alone the late one would be the newer
    assert row.session.version < before.record.session.version
    assert (await told(process)).startswith("OutcomeUnknownError")
    host.flag = ON
    for _ in range(2):
        found = await host.repository.get("s")
        assert found is not None
        assert found.data == {"k": "acknowledged"}


async def test_what_a_stopped_process_has_read_does_not_count_after_its_lease(open_fleet: OpenFleet) -> None:
    fleet = await open_fleet(lease=LEASE)
    host = fleet.hosts[0]
    await host.repository.create(NewSession(id="s", user_id="ann", data={"k": "old"}))
    process = await stopped_in(fleet, "get")
    await begin_generation(fleet)
    host.flag = OFF
    await host.repository.update("s", changes={"k": "new"})
    assert await told(process) == "{'k': 'new'}"
