"""One fault under the ledger: inject, hold, heal, wait until the fleet is healthy; and the verdict on what was seen."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.chaos.faults import Expectation, Fault, Where
from tests.chaos.fleet import Fleet, FleetError, Ready
from tests.ledger.phases import ONE_SESSION, OVERALL

if TYPE_CHECKING:
    import random

    from tests.ledger.ledger import Ledger
    from tests.ledger.phases import Phase

FINAL = "final"
EFFECT_LIMIT = 30.0
"""Seconds until a fault shows; systemd starts a killed service again after 1 s, and Redis loads its file."""


@dataclass
class Trial:
    """A fault as it went. Times are seconds."""

    fault: Fault
    mode: str
    hosts: list[str]
    slack: float = 1.0
    """By how much every limit of silence is longer than it should be, for a machine that is busy."""
    states: dict[str, Ready] = field(default_factory=dict)
    """What the service hosts said of themselves at the end of the fault."""
    moved: bool = False
    recovery: float | None = None
    during: Phase | None = None
    after: Phase | None = None
    broken: list[str] = field(default_factory=list)
    """What the rig itself could not do."""

    @property
    def name(self) -> str:
        """The fault and where it was."""
        return f"{self.fault.name} on {' '.join(self.hosts)}"

    @property
    def expected(self) -> Expectation:
        """What must hold in the mode that the fleet was in."""
        expected = self.fault.final if self.mode == FINAL else self.fault.mirror
        assert expected is not None
        return expected

    def silence(self, label: str) -> float:
        """The longest silence that began under the fault."""
        return 0.0 if self.during is None else self.during.silence.get(label, 0.0)

    def limit(self, label: str) -> float | None:
        """The longest that this silence may be."""
        limit = self.expected.silence if label == OVERALL else self.expected.one_session
        return None if limit is None else self.slack * limit

    def problems(self) -> list[str]:
        """What did not hold, each in one line."""
        expected, found = self.expected, list(self.broken)
        for label in (OVERALL, ONE_SESSION):
            limit = self.limit(label)
            if limit is not None and self.silence(label) > limit:
                found.append(f"silence of {label}: {self.silence(label):.1f} s, at most {limit:.1f} s")
        if self.after is not None and self.after.silence.get(OVERALL, 0.0) > self.slack * expected.after:
            found.append(f"silence behind the healing: {self.after.silence[OVERALL]:.1f} s")
        if self.moved != expected.moves:
            found.append("the sessions were moved" if self.moved else "the sessions were not moved")
        wanted = {"every": set(self.states), "other": set(self.states) - set(self.hosts)}.get(expected.ready)
        are = {name for name, state in self.states.items() if state.ready}
        if wanted is not None and are != wanted:
            found.append(f"ready were {sorted(are)}, not {sorted(wanted)}")
        failed = sum(phase.failed.total() for phase in (self.during, self.after) if phase is not None)
        if failed and not expected.fails:
            found.append(f"{failed} requests failed")
        return found

    def figures(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "fault": self.fault.name,
            "mode": self.mode,
            "hosts": self.hosts,
            "moved": self.moved,
            "recovery": self.recovery,
            "during": self.during.figures() if self.during else None,
            "after": self.after.figures() if self.after else None,
            "problems": self.problems(),
        }


def applicable(fault: Fault, mode: str | None) -> bool:
    """Whether the fault has an expectation in this mode."""
    return mode != FINAL or fault.final is not None


def targets(fault: Fault, fleet: Fleet, chance: random.Random) -> list[str]:
    """The hosts that the fault is injected on, in order; the one of several is drawn."""
    if fault.where is Where.REDIS:
        return fleet.hosts("redis")
    if fault.where is Where.LEGACY:
        return fleet.hosts("legacy")
    services = fleet.hosts("session_service")
    return [chance.choice(services)] if fault.where is Where.ONE_SERVICE else services


async def endure(
    fleet: Fleet, ledger: Ledger, fault: Fault, chance: random.Random, *, hold: float, slack: float = 1.0
) -> Trial:
    """Put the fault on a healthy fleet for `hold` seconds (or longer, where it needs that), and take it away again.

    What was injected is healed whatever happens. Raises `FleetError` when the fleet is not healthy before or behind it.
    """
    _, before = await fleet.healthy(fault.recovery)
    trial = Trial(fault, before.mode or "", targets(fault, fleet, chance), slack)
    trial.during = ledger.mark(f"fault injected: {trial.name}")
    injected: list[str] = []
    try:
        for host in trial.hosts:
            injected.append(host)
            await fleet.run(host, fault.inject)
        trial.broken += await _not_in_effect(fleet, fault, trial.hosts)
        await ledger.hold(max(hold, fault.hold))
        trial.states = await fleet.states()
    finally:
        trial.after = ledger.mark(f"fault healed: {fault.name}")
        await heal(fleet, fault, injected)
    trial.recovery, after = await fleet.healthy(fault.recovery)
    trial.moved = after.prefix != before.prefix
    return trial


async def heal(fleet: Fleet, fault: Fault, hosts: list[str]) -> None:
    """Take the fault away from the hosts; one that cannot be healed leaves none of the others as it is."""
    errors = []
    for host in hosts:
        try:
            await fleet.run(host, fault.heal)
        except FleetError as error:
            errors.append(str(error))
    if errors:
        raise FleetError(f"{fault.name} is not healed: {'; '.join(errors)}")


async def _not_in_effect(fleet: Fleet, fault: Fault, hosts: list[str]) -> list[str]:
    """The hosts on which the fault does not show: such a run would prove nothing."""
    limit = time.monotonic() + EFFECT_LIMIT
    left = list(hosts)
    while left and time.monotonic() < limit:
        left = [host for host in left if not await fleet.holds(host, fault.effect)]
        await asyncio.sleep(0.1 if left else 0)
    return [f"the fault took no effect on {host}" for host in left]
