"""A fault is healed whatever happens, and the verdict says what did not hold; on a fleet that is only told about."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import time
from collections import deque
from typing import Any, cast

import pytest

from tests.chaos.__main__ import ended_in_order, may_bump
from tests.chaos.faults import FAULTS, Expectation, Fault, Where, named
from tests.chaos.fleet import Fleet, FleetError, Ready
from tests.chaos.scenario import Trial, endure
from tests.ledger.answers import Answer, Outcome
from tests.ledger.ledger import Ledger
from tests.ledger.phases import Phases

FAULT = Fault(
    name="a fault",
    where=Where.EVERY_SERVICE,
    inject="inject",
    effect="effect",
    heal="heal",
    mirror=Expectation(ready="other", moves=True),
    final=None,
)


def ready(prefix: str = "1-a", *, is_ready: bool = True) -> Ready:
    return Ready(ready=is_ready, reasons=[], mode="mirror", prefix=prefix, use_redis=True)


class ToldFleet:
    """Remembers what it is told to run, and fails where it is told to."""

    def __init__(self, *, failing: str = "", effective: bool = True) -> None:
        self.told: list[tuple[str, str]] = []
        self.failing = failing
        self.effective = effective
        self.prefix = "1-a"

    def hosts(self, group: str) -> list[str]:
        return {"session_service": ["app1", "app2"], "redis": ["redis1"], "legacy": ["db1"]}[group]

    async def run(self, host: str, script: str) -> str:
        self.told.append((host, script))
        if script == "inject":
            self.prefix = "2-b"
        if f"{script} {host}" == self.failing:
            raise FleetError(f"cannot {script} {host}")
        return ""

    async def holds(self, _host: str, _condition: str) -> bool:
        return self.effective

    async def states(self) -> dict[str, Ready]:
        return {"app1": ready(), "app2": ready()}

    async def healthy(self, _patience: float) -> tuple[float, Ready]:
        return 0.0, ready(self.prefix)


class MarkedLedger:
    """A ledger of which only the phases are of interest here."""

    def __init__(self) -> None:
        self.phases = Phases("before", 0.0)
        self.holding: Exception | None = None

    def mark(self, name: str) -> Any:
        return self.phases.mark(name, time.monotonic())

    async def hold(self, _seconds: float) -> None:
        if self.holding is not None:
            raise self.holding


async def put(fleet: ToldFleet, ledger: MarkedLedger) -> Trial:
    return await endure(cast("Fleet", fleet), cast("Ledger", ledger), FAULT, random.Random(1), hold=0)  # noqa: S311


async def test_a_fault_is_injected_seen_and_healed_on_every_host_in_turn() -> None:
    fleet = ToldFleet()
    trial = await put(fleet, MarkedLedger())
    assert fleet.told == [("app1", "inject"), ("app2", "inject"), ("app1", "heal"), ("app2", "heal")]
    assert trial.moved
    assert trial.problems() == ["ready were ['app1', 'app2'], not []"]


async def test_a_fault_is_healed_where_it_was_injected_when_the_run_breaks_off() -> None:
    fleet, ledger = ToldFleet(failing="inject app2"), MarkedLedger()
    with pytest.raises(FleetError, match="cannot inject app2"):
        await put(fleet, ledger)
    assert fleet.told[2:] == [("app1", "heal"), ("app2", "heal")]
    fleet, ledger.holding = ToldFleet(), RuntimeError("broken down")
    with pytest.raises(RuntimeError, match="broken down"):
        await put(fleet, ledger)
    assert fleet.told[2:] == [("app1", "heal"), ("app2", "heal")]


async def test_sigterm_breaks_a_run_off_as_ctrl_c_does() -> None:
    fleet, ledger = ToldFleet(), MarkedLedger()

    async def work() -> int:
        ledger.hold = terminated  # type: ignore[method-assign]
        await put(fleet, ledger)
        return 0

    async def terminated(_seconds: float) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(5)

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(ended_in_order(work()))
    assert fleet.told[2:] == [("app1", "heal"), ("app2", "heal")]


async def test_a_host_that_cannot_be_healed_is_named_and_the_others_are_healed() -> None:
    fleet = ToldFleet(failing="heal app1")
    with pytest.raises(FleetError, match="a fault is not healed: cannot heal app1"):
        await put(fleet, MarkedLedger())
    assert fleet.told[-1] == ("app2", "heal")


async def test_a_fault_that_takes_no_effect_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.chaos.scenario.EFFECT_LIMIT", 0.05)
    trial = await put(ToldFleet(effective=False), MarkedLedger())
    assert trial.problems()[:2] == [f"the fault took no effect on {host}" for host in ("app1", "app2")]


def trial(expected: Expectation, *, moved: bool = False, slack: float = 1.0) -> Trial:
    fault = Fault(name="a", where=Where.ONE_SERVICE, inject="", effect="", mirror=expected, final=None)
    made = Trial(fault, "mirror", ["app1"], slack, moved=moved)
    made.states = {"app1": ready(is_ready=False), "app2": ready()}
    phases = Phases("before", 0.0)
    made.during = phases.mark("fault", 1.0)
    for started, outcome in ((1.0, Outcome.NOTHING), (6.0, Outcome.DONE)):
        answer = Answer(outcome, "" if outcome is Outcome.DONE else "down", None, started, started + 0.5)
        phases.asked(("read",), "a session", started)
        phases.answered(("read",), "a session", answer, changes=False)
    made.after = phases.mark("healed", 7.0)
    phases.end(9.0)
    return made


def test_what_is_as_expected_is_no_problem() -> None:
    assert trial(Expectation(silence=6, one_session=6, ready="other")).problems() == []
    assert trial(Expectation(silence=None, one_session=None, ready="any")).problems() == []


def test_a_busy_machine_may_be_silent_for_longer_and_nothing_else() -> None:
    expected = Expectation(silence=3, one_session=3, ready="other")
    assert trial(expected, slack=2.0).problems() == []
    assert len(trial(expected, slack=1.5).problems()) == 2
    assert trial(Expectation(silence=3, one_session=3, fails=False), slack=2.0).problems() == ["1 requests failed"]


@pytest.mark.parametrize(
    ("expected", "moved", "problem"),
    [
        (Expectation(silence=5, one_session=6), False, "silence of overall: 5.5 s, at most 5.0 s"),
        (Expectation(silence=6, one_session=5), False, "silence of one session: 5.5 s, at most 5.0 s"),
        (Expectation(silence=6, one_session=6), True, "the sessions were moved"),
        (Expectation(silence=6, one_session=6, moves=True), False, "the sessions were not moved"),
        (Expectation(silence=6, one_session=6, ready="every"), False, "ready were ['app2'], not ['app1', 'app2']"),
        (Expectation(silence=6, one_session=6, fails=False), False, "1 requests failed"),
    ],
)
def test_each_thing_that_did_not_hold_is_a_problem(expected: Expectation, *, moved: bool, problem: str) -> None:
    assert trial(expected, moved=moved).problems() == [problem]


def test_every_fault_has_a_name_of_its_own_and_shell_that_bash_can_read() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    for fault in FAULTS:
        for script in (fault.inject, fault.effect, fault.heal):
            read = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
            assert (read.returncode, read.stderr) == (0, ""), f"{fault.name}: {script}"


def test_faults_are_spaced_so_that_the_hosts_may_bump() -> None:
    now = time.monotonic()
    gone, killed = named("redis gone for good"), named("redis killed")
    assert may_bump(deque([now]), gone)
    assert not may_bump(deque([now, now]), gone)
    assert may_bump(deque([now, now]), killed)
    assert not may_bump(deque([now, now, now]), killed)
    assert may_bump(deque([now - 601, now - 601, now]), gone)
    assert may_bump(deque([now, now, now]), named("service killed"))
