"""What happens to an operator who moves sessions: a host that is lost in the middle, a colleague at the same time, a
command that is out of order; and callers who mean harm meanwhile. Each is a coroutine that brings it about, heals it,
sees to it that the same command then goes on (I7), and returns what did not hold. Under the ledger no request may fail.
"""

from __future__ import annotations

import asyncio
import subprocess
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.chaos.fleet import FleetError
from tests.chaos.hostile import harm
from tests.chaos.playbook import Playbook
from tests.chaos.shell import NFT
from tests.fleet import lab
from tests.ledger.phases import OVERALL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tests.chaos.fleet import Fleet
    from tests.ledger.ledger import Ledger
    from tests.ledger.phases import Phase

LOST_WITHIN = 60.0
"""Seconds in which a playbook gives up a host that has gone silent: ServerAliveInterval times its count, and a try."""

WATCH = 2
"""Seconds for which a step measures callers."""

SILENCE = 1.5
"""Seconds in which no request at all is acknowledged, at most: none of this is for callers to notice."""


class Scene:
    """The fleet, and the playbooks that operators run on it."""

    def __init__(self, fleet: Fleet, logs: Path) -> None:
        """The output of every playbook goes to a file of its own in `logs`."""
        self.fleet = fleet
        self._logs = logs
        self._plays = 0

    def playbook(self, name: str, *arguments: str, operator: str = "ann", watch: int = WATCH) -> Playbook:
        """A playbook that somebody is about to start."""
        self._plays += 1
        more = ("-e", f"migrate_watch_seconds={watch}", "-e", f"migrate_operator={operator}")
        log = self._logs / f"{self._plays:02}-{name.removesuffix('.yml')}.log"
        return Playbook(name, (*arguments, *(more if name == "migrate.yml" else ())), log)

    def migrate(self, to: int, *, operator: str = "ann", watch: int = WATCH) -> Playbook:
        """A step of the migration."""
        return self.playbook("migrate.yml", "-e", f"migrate_to={to}", operator=operator, watch=watch)

    async def shares(self) -> dict[str, str]:
        """What the flag file of each service host says."""
        hosts = self.fleet.hosts("session_service")
        told = [await self._inside(host, "grep -v ^# /etc/session-ops/flag") for host in hosts]
        return dict(zip(hosts, (" ".join(each.split()) for each in told), strict=True))

    async def equip(self) -> None:
        """Put what an upset needs on the hosts: in the middle of a playbook it would come too late."""
        for host in self.fleet.hosts("session_service"):
            await self._inside(host, NFT)

    @asynccontextmanager
    async def under_way(self, playbook: Playbook) -> AsyncIterator[asyncio.Task[int]]:
        """A playbook that goes on while other things happen; whatever ends them ends it as well."""
        running = asyncio.create_task(playbook.run())
        try:
            yield running
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    async def again(self, playbook: Playbook, same: Playbook) -> list[str]:
        """I7: a command that was broken off goes on, and run once more changes nothing."""
        if await playbook.run() != 0:
            return [f"the same command does not go on: {playbook.log}\n{playbook.last_words()}"]
        if await same.run() != 0 or same.changed():
            return [f"once more it changes something: {same.log}: {same.changed()}"]
        return []

    @asynccontextmanager
    async def ssh_lost(self, host: str) -> AsyncIterator[None]:
        """Nothing that is for the host's port 22 arrives any more, on connections that are open as well."""
        rules = "add table inet upset; add chain inet upset in { type filter hook input priority 0; }"
        await self._inside(host, f"nft '{rules}; add rule inet upset in tcp dport 22 drop'")
        try:
            yield
        finally:
            await self._inside(host, "nft delete table inet upset")

    @staticmethod
    async def _inside(host: str, script: str) -> str:
        # Past SSH, which may be what is gone
        try:
            return await asyncio.to_thread(lab.inside, host, script)
        except subprocess.CalledProcessError as error:
            raise FleetError(f"on {host}, exit {error.returncode}: {error.stderr.strip()[-500:]}\n{script}") from None


@dataclass(frozen=True)
class Upset:
    """One of them. The fleet's percentage must be `at` when it begins; it leaves it at `leaves`."""

    name: str
    happen: Callable[[Scene], Awaitable[list[str]]]
    at: int
    leaves: int


async def ssh_lost_in_a_step(scene: Scene) -> list[str]:
    """A host is lost as the flags are flipped: the play fails and names it."""
    return await _lost(scene, lambda: scene.migrate(10), "(4/5)")


async def ssh_lost_in_a_rollback(scene: Scene) -> list[str]:
    """The same on the way back."""
    return await _lost(scene, lambda: scene.playbook("rollback.yml"), "(4/6)")


async def _lost(scene: Scene, make: Callable[[], Playbook], title: str) -> list[str]:
    host = scene.fleet.hosts("session_service")[-1]
    playbook = make()
    found = []
    async with scene.under_way(playbook) as running:
        if not await playbook.reached(title):
            found.append(f"play {title} never began: {playbook.log}")
        async with scene.ssh_lost(host):
            try:
                async with asyncio.timeout(LOST_WITHIN):
                    if await running == 0:
                        found.append(f"it claims success without {host}: {playbook.log}")
            except TimeoutError:
                found.append(f"it still waited for {host} after {LOST_WITHIN:.0f} s: {playbook.log}")
    if f"{host} : ok=" not in playbook.words or f"fatal: [{host}]: UNREACHABLE!" not in playbook.words:
        found.append(f"it does not name {host}: {playbook.log}")
    return found + await scene.again(make(), make())


async def two_migrations(scene: Scene) -> list[str]:
    """Two operators take a step at once: one takes it, the other is told who is at it, or that it is taken."""
    both = [scene.migrate(50, operator=operator, watch=5) for operator in ("ann", "bob")]
    status = await asyncio.gather(*(each.run() for each in both))
    found = []
    if 0 not in status:
        found.append(f"neither of two operators took the step: {both[0].log}, {both[1].log}")
    for mine, theirs, ended in ((both[0], "bob@", status[0]), (both[1], "ann@", status[1])):
        if ended != 0 and theirs not in mine.words:
            found.append(f"who was refused is not told by whom ({theirs}): {mine.log}")
    return found + await scene.again(scene.migrate(50), scene.migrate(50))


async def half_the_fleet_gone(scene: Scene) -> list[str]:
    """A host does not answer before a flip: refused before any flag is changed."""
    host = scene.fleet.hosts("session_service")[-1]
    before = await scene.shares()
    async with scene.ssh_lost(host):
        playbook = scene.migrate(100)
        refused = await playbook.run() != 0
    found = [] if refused else [f"it flipped half of the fleet: {playbook.log}"]
    if f"fatal: [{host}]: UNREACHABLE!" not in playbook.words:
        found.append(f"it does not name {host}: {playbook.log}")
    if await scene.shares() != before:
        found.append(f"it changed flags: {playbook.log}")
    return found


async def wrong_order(scene: Scene) -> list[str]:
    """A percentage that goes down, a step that is none, a part of the fleet: refused, and nothing is changed."""
    before = await scene.shares()
    found = []
    for playbook, words in (
        (scene.migrate(10), "playbooks/rollback.yml"),
        (scene.migrate(33), "33 is none of"),
        (scene.playbook("migrate.yml", "-e", "migrate_to=100", "--limit", "app1"), "run this without --limit"),
    ):
        if await playbook.run() == 0:
            found.append(f"it was not refused: {playbook.log}")
        if words not in playbook.words:
            found.append(f"it does not say {words!r}: {playbook.log}")
    return found + (["what was refused changed flags"] if await scene.shares() != before else [])


async def migration_and_rollback(scene: Scene) -> list[str]:
    """A rollback in the middle of somebody's step: refused, with his name; the step is reached."""
    step, back = scene.migrate(100, watch=20), scene.playbook("rollback.yml")
    async with scene.under_way(step) as running:
        found = [] if await step.reached("(4/5)") else [f"the step never flipped a flag: {step.log}"]
        if await back.run() == 0:
            found.append(f"a rollback went through the middle of a step: {back.log}")
        if "ann@" not in back.words or "--take-over" not in back.words:
            found.append(f"it does not say who is at work, and how to take over: {back.log}")
        if await running != 0:
            found.append(f"the step was not reached: {step.log}\n{step.last_words()}")
    return found + await scene.again(scene.migrate(100), scene.migrate(100))


async def hostile_callers(scene: Scene) -> list[str]:
    """Hostile ids and bodies for some seconds: each is refused as it should be."""
    return await harm(scene.fleet.urls, scene.fleet.token, seconds=5)


@dataclass
class Suffered:
    """An upset as it went."""

    upset: Upset
    phase: Phase
    found: list[str] = field(default_factory=list)
    slack: float = 1.0

    def problems(self) -> list[str]:
        """What did not hold, each in one line."""
        found, failed = list(self.found), self.phase.failed
        if failed:
            found.append(f"{failed.total()} requests failed: {dict(failed)}")
        if self.silence > self.slack * SILENCE:
            found.append(f"silence: {self.silence:.1f} s, at most {self.slack * SILENCE:.1f} s")
        return found

    @property
    def silence(self) -> float:
        """The longest in which nobody was answered."""
        return self.phase.silence.get(OVERALL, 0.0)

    def figures(self) -> dict[str, Any]:
        """For JSON."""
        return {"upset": self.upset.name, "phase": self.phase.figures(), "problems": self.problems()}


async def suffer(scene: Scene, ledger: Ledger, upset: Upset, *, slack: float = 1.0) -> Suffered:
    """Let it happen to a fleet that is where it begins."""
    suffered = Suffered(upset, ledger.mark(upset.name), slack=slack)
    suffered.found += await upset.happen(scene)
    await ledger.hold(2)
    return suffered


async def bring(scene: Scene, now: int, wanted: int) -> None:
    """Bring the fleet from one percentage to another. Raises `FleetError`."""
    if now == wanted:
        return
    ways = [scene.playbook("rollback.yml")] if wanted < now else []
    ways += [scene.migrate(wanted)] if wanted else []
    for playbook in ways:
        if await playbook.run() != 0:
            raise FleetError(f"the fleet does not come to {wanted} %: {playbook.log}\n{playbook.last_words()}")


UPSETS = [
    Upset("SSH lost in a step", ssh_lost_in_a_step, at=0, leaves=10),
    Upset("two migrations at once", two_migrations, at=10, leaves=50),
    Upset("half of the fleet gone at a flip", half_the_fleet_gone, at=50, leaves=50),
    Upset("wrong order of stages", wrong_order, at=50, leaves=50),
    Upset("migration and rollback at once", migration_and_rollback, at=50, leaves=100),
    Upset("hostile callers", hostile_callers, at=100, leaves=100),
    Upset("SSH lost in a rollback", ssh_lost_in_a_rollback, at=100, leaves=0),
]
