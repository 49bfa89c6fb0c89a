"""The rehearsal itself: prepare an application's table, then a step after the other under the ledger."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.chaos.fleet import FleetError
from tests.chaos.playbook import Playbook
from tests.fleet.test_legacy_store import FRESH_AGAIN
from tests.rehearsal.application import BROKEN

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chaos.fleet import Fleet
    from tests.ledger.ledger import Ledger
    from tests.ledger.phases import Phase
    from tests.rehearsal.application import Application
    from tests.rehearsal.steps import Step

PROGRESS = 10.0
"""Seconds between two lines of progress."""

HEALTHY_WITHIN = 60.0
"""Seconds that the hosts have behind a step, to agree on the generation."""

LOOK = 1.0
"""Seconds between two looks at how far a step is that is to be interrupted."""


class RehearsalError(Exception):
    """A playbook did not do what it should; the message says which, and ends with its last words."""


@dataclass
class Taken:
    """A step as it went."""

    step: Step
    phase: Phase
    problems: list[str] = field(default_factory=list)


class Rehearsal:
    """One rehearsal. `watch`: seconds for which the playbook measures callers before and behind a step; `p99`: the
    limit, in ms, of what it measures.
    """

    def __init__(self, fleet: Fleet, application: Application, logs: Path, *, watch: int, p99: int) -> None:
        """The output of every playbook goes to a file of its own in `logs`."""
        self.taken: list[Taken] = []
        self._fleet = fleet
        self._application = application
        self._logs = logs
        self._gates = ("-e", f"migrate_watch_seconds={watch}", "-e", f"migrate_p99_limit={p99}")
        self._plays = 0

    async def prepare(self) -> None:
        """New hosts beside the application's table; the rollout waits for the operator, who prepares it, and goes on.

        Raises `RehearsalError`.
        """
        print("prepare", flush=True)
        for host in self._fleet.hosts("session_service"):
            await self._fleet.run(host, f"set +e\n{FRESH_AGAIN}")
        await self._application.begin()
        first = self._playbook("rollout.yml")
        if await first.run() == 0 or "has rows and is not prepared" not in " ".join(first.log.read_text().split()):
            raise RehearsalError(f"the rollout did not wait for the operator:\n{first.last_words()}")
        for playbook, arguments in (("migrate.yml", ("-e", "migrate_to=prepare")), ("rollout.yml", ())):
            await self._succeeds(self._playbook(playbook, arguments))

    async def take(self, step: Step, ledger: Ledger) -> None:
        """One step under the ledger. Raises `RehearsalError` where the playbook fails; no further step makes sense."""
        print(step.name, flush=True)
        before = await self._application.count(100) if step.half_way else None
        taken = Taken(step, ledger.mark(step.name))
        self.taken.append(taken)
        if step.on_redis:
            await self._fleet.run(self._fleet.hosts("redis")[0], step.on_redis)
        more = self._gates if step.playbook == "migrate.yml" else ()
        playbook = self._playbook(step.playbook, (*step.arguments, *more))
        progress = asyncio.create_task(self._show(taken.phase))
        try:
            if before is not None:
                await self._stop_half_way(playbook, before.owned)
            else:
                await self._succeeds(playbook)
                if bool(playbook.changed()) is not step.changes:
                    taken.problems.append(f"the recap says of changes: {playbook.changed()}; see {playbook.log}")
        finally:
            progress.cancel()
        taken.problems += await self._not_ready()
        if step.percent is not None:
            count = await self._application.count(step.percent)
            if count.owned != count.at_home:
                taken.problems.append(f"{count.owned} sessions are in Redis, {count.at_home} have their home there")
        await ledger.hold(2)

    async def quarantined(self) -> list[str]:
        """What is wrong with the quarantine, if anything: broken rows are all that may be in it."""
        aside = await self._application.put_aside()
        return [] if aside == BROKEN else [f"{aside} rows were put aside, of {BROKEN} broken ones"]

    async def _not_ready(self) -> list[str]:
        """Every host is ready again soon, in the same generation, with a Redis or without one."""
        limit = time.monotonic() + HEALTHY_WITHIN
        while True:
            states = await self._fleet.states()
            if all(each.ready for each in states.values()) and len({each.prefix for each in states.values()}) == 1:
                return []
            if time.monotonic() > limit:
                told = {name: each.reasons or each.prefix for name, each in states.items()}
                return [f"the hosts are not ready after {HEALTHY_WITHIN:.0f} s: {told}"]
            await asyncio.sleep(LOOK / 5)

    async def _stop_half_way(self, playbook: Playbook, at_first: int) -> None:
        running = asyncio.create_task(playbook.run())
        while not running.done():
            if (await self._application.count(100)).owned <= at_first / 2:
                print("  Ctrl-C", flush=True)
                await playbook.interrupt()
                break
            await asyncio.sleep(LOOK)
        if await running == 0:
            raise RehearsalError(f"{playbook.log} ended before it was interrupted; have more sessions")

    async def _succeeds(self, playbook: Playbook) -> None:
        if await playbook.run() != 0:
            raise RehearsalError(f"{playbook.log} failed:\n{playbook.last_words()}")

    def _playbook(self, name: str, arguments: tuple[str, ...] = ()) -> Playbook:
        self._plays += 1
        return Playbook(name, arguments, self._logs / f"{self._plays:02}-{name.removesuffix('.yml')}.log")

    async def _show(self, phase: Phase) -> None:
        while True:
            await asyncio.sleep(PROGRESS)
            p99 = phase.latency.percentile(99) or 0.0
            said = f"{phase.requests:,} requests, {phase.failed.total():,} failed, p99 {1000 * p99:.0f} ms"
            # Where the legacy store is no part of the fleet any more there is nothing to count
            with contextlib.suppress(FleetError):
                count = await self._application.count(100)
                said += f"; {count.owned:,} of {count.at_home:,} sessions in Redis"
            print(f"  {time.monotonic() - phase.started:6.1f} s  {said}", flush=True)
