"""A rehearsal's steps, on a fleet and an application that are only told about, with playbooks that are shell."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.chaos.fleet import Fleet, FleetError, Ready
from tests.chaos.playbook import Playbook
from tests.fleet.lab import ENVIRONMENT
from tests.ledger.phases import Phases
from tests.rehearsal.application import Application, Count
from tests.rehearsal.run import Rehearsal, RehearsalError
from tests.rehearsal.steps import DESTROYED, HALF_WAY, LONG, PLAN, ROLLBACK, SHORT, migrate

if TYPE_CHECKING:
    from pathlib import Path

    from tests.ledger.ledger import Ledger


CHANGES = "echo 'PLAY [(1/1) HOSTS] ****'; echo 'PLAY RECAP ****'; echo 'app1 : ok=3 changed=1'"


class ToldFleet:
    """Remembers what it is told to run."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.ill = False

    def hosts(self, group: str) -> list[str]:
        return {"session_service": ["app1", "app2"], "redis": ["redis1"], "legacy": ["db1"]}[group]

    async def run(self, host: str, script: str) -> str:
        self.told.append((host, script))
        return ""

    async def states(self) -> dict[str, Ready]:
        state = Ready(ready=not self.ill, reasons=["ill"], mode=None, prefix=None, use_redis=True)
        return {"app1": replace(state, ready=True), "app2": state}


class ToldApplication:
    """Its counts follow one another; the last one stays."""

    def __init__(self, *counts: Count) -> None:
        self.counts = list(counts)
        self.asked: list[int] = []

    async def count(self, percent: int) -> Count:
        self.asked.append(percent)
        return self.counts.pop(0) if len(self.counts) > 1 else self.counts[0]

    async def begin(self) -> None:
        pass

    async def put_aside(self) -> int:
        return 9


class MarkedLedger:
    """A ledger of which only the phases are of interest here."""

    def __init__(self) -> None:
        self.phases = Phases("before", 0.0)

    def mark(self, name: str) -> Any:
        return self.phases.mark(name, time.monotonic())

    async def hold(self, _seconds: float) -> None:
        pass


class Plays:
    """A folder with an `ansible-playbook` that is this shell script, and notes how it is called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fleet = ToldFleet()
        self.ledger = MarkedLedger()
        self.is_to(CHANGES)

    def is_to(self, script: str) -> None:
        program = self.folder / "ansible-playbook"
        program.write_text(f'#!/bin/bash\necho "$@" >> {self.folder}/calls\n{script}\n')
        program.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()

    def rehearsal(self, *counts: Count) -> Rehearsal:
        application = ToldApplication(*counts or (Count(0, 0),))
        fleet = cast("Fleet", self.fleet)
        return Rehearsal(fleet, cast("Application", application), self.folder / "logs", watch=7, p99=90)


@pytest.fixture
def plays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plays:
    path = f"{tmp_path}:{ENVIRONMENT['PATH']}"
    monkeypatch.setattr("tests.chaos.playbook.ENVIRONMENT", ENVIRONMENT | {"PATH": path})
    return Plays(tmp_path)


async def take(plays: Plays, rehearsal: Rehearsal, step: Any = ROLLBACK) -> list[str]:
    await rehearsal.take(step, cast("Ledger", plays.ledger))
    return rehearsal.taken[-1].problems


async def test_a_step_is_its_playbook_and_a_phase_of_the_ledger(
    plays: Plays, capsys: pytest.CaptureFixture[str]
) -> None:
    rehearsal = plays.rehearsal(Count(3, 3))
    assert await take(plays, rehearsal, migrate("10")) == []
    [call] = plays.calls
    gates = "-e migrate_watch_seconds=7 -e migrate_p99_limit=90"
    assert call == f"-i inventory/lab playbooks/migrate.yml -e migrate_to=10 {gates}"
    assert plays.ledger.phases.all[-1].name == "to 10 %"
    assert "(1/1) HOSTS" in capsys.readouterr().out
    [log] = (plays.folder / "logs").iterdir()
    assert (log.name, "PLAY [(1/1)" in log.read_text()) == ("01-migrate.log", True)


async def test_sessions_that_are_not_at_home_behind_a_step_are_a_problem(plays: Plays) -> None:
    problems = await take(plays, plays.rehearsal(Count(2, 0)))
    assert problems == ["2 sessions are in Redis, 0 have their home there"]


async def test_what_should_change_something_does_and_what_should_not_does_not(plays: Plays) -> None:
    assert await take(plays, plays.rehearsal(), PLAN) != []
    plays.is_to(CHANGES.replace("changed=1", "changed=0"))
    assert await take(plays, plays.rehearsal(), PLAN) == []
    [problem] = await take(plays, plays.rehearsal(), ROLLBACK)
    assert "the recap says of changes: []" in problem


async def test_hosts_that_are_not_ready_behind_a_step_are_a_problem(
    plays: Plays, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.rehearsal.run.HEALTHY_WITHIN", 0.3)
    plays.fleet.ill = True
    [problem] = await take(plays, plays.rehearsal())
    assert problem == "the hosts are not ready after 0 s: {'app1': ['ill'], 'app2': ['ill']}"


async def test_redis_is_destroyed_before_the_playbook_runs(plays: Plays) -> None:
    await take(plays, plays.rehearsal(), DESTROYED)
    assert plays.fleet.told == [("redis1", "systemctl stop redis-server\nrm -rf /var/lib/redis/*")]
    assert plays.calls == ["-i inventory/lab playbooks/rollback.yml -e redis_lost=true"]


async def test_a_playbook_that_fails_ends_it_with_its_last_words(plays: Plays) -> None:
    plays.is_to("echo a gate is closed; exit 2")
    with pytest.raises(RehearsalError, match=r"01-rollback.log failed:\n(.|\n)*a gate is closed"):
        await take(plays, plays.rehearsal())


async def test_ctrl_c_is_pressed_once_half_of_the_sessions_are_home(plays: Plays) -> None:
    plays.is_to("trap 'echo interrupted; exit 99' INT; for _ in $(seq 300); do sleep 0.1; done")
    rehearsal = plays.rehearsal(Count(30, 30), Count(20, 30), Count(15, 30), Count(12, 30))
    assert await take(plays, rehearsal, HALF_WAY) == []
    assert "interrupted" in next((plays.folder / "logs").iterdir()).read_text()


async def test_a_playbook_that_was_too_quick_for_ctrl_c_ends_it(plays: Plays) -> None:
    with pytest.raises(RehearsalError, match="ended before it was interrupted; have more sessions"):
        await take(plays, plays.rehearsal(Count(30, 30)), HALF_WAY)


async def test_a_playbook_ends_with_whoever_waits_for_it(plays: Plays, tmp_path: Path) -> None:
    plays.is_to(f"trap 'touch {tmp_path}/ended; exit 99' INT; {CHANGES}; sleep 20")
    playbook = Playbook("a.yml", (), tmp_path / "log")
    running = asyncio.create_task(playbook.run())
    assert await playbook.reached("(1/1)")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (tmp_path / "ended").exists()


async def test_progress_is_shown_also_where_nobody_can_count(
    plays: Plays, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tests.rehearsal.run.PROGRESS", 0.1)
    plays.is_to(f"sleep 0.4; {CHANGES}")
    await take(plays, plays.rehearsal(Count(3, 3), Count(3, 3)), migrate("10"))
    assert "0 requests, 0 failed, p99 0 ms; 3 of 3 sessions in Redis" in capsys.readouterr().out
    await take(plays, plays.rehearsal(), replace(migrate("10"), percent=None))
    assert "p99 0 ms\n" not in capsys.readouterr().out
    gone = plays.rehearsal()
    monkeypatch.setattr(ToldApplication, "count", raising)
    await take(plays, gone, replace(migrate("10"), percent=None))
    assert "p99 0 ms\n" in capsys.readouterr().out


async def raising(_self: ToldApplication, _percent: int) -> Count:
    raise FleetError("there is no such table")


async def test_the_rollout_has_to_wait_for_the_operator(plays: Plays) -> None:
    with pytest.raises(RehearsalError, match="the rollout did not wait for the operator"):
        await plays.rehearsal().prepare()
    plays.is_to("[ -e $0.prepared ] || [[ $* = *prepare* ]] || { echo it has rows and is not prepared; exit 2; }\n"
                "[[ $* != *prepare* ]] || touch $0.prepared")  # fmt: skip
    await plays.rehearsal().prepare()
    assert [call.split(" ", 2)[2] for call in plays.calls[1:]] == [
        "playbooks/rollout.yml",
        "playbooks/migrate.yml -e migrate_to=prepare",
        "playbooks/rollout.yml",
    ]


async def test_a_quarantine_that_is_not_the_broken_rows_is_a_problem(plays: Plays) -> None:
    assert await plays.rehearsal().quarantined() == ["9 rows were put aside, of 10 broken ones"]


def test_the_users_of_before_are_all_those_whose_sessions_are_whole_and_the_seed_draws_their_order() -> None:
    fleet = cast("Fleet", ToldFleet())
    users = list(Application(fleet, 100, 5).existing())
    assert len({user.user_id for user in users}) == 33
    assert {each for user in users for each in user.sessions} == {f"visit-{n}" for n in range(99)}
    assert users[0].user_id != "visitor-0"
    assert [user.user_id for user in Application(fleet, 100, 5).existing()] == [user.user_id for user in users]
    assert [user.user_id for user in Application(fleet, 100, 6).existing()] != [user.user_id for user in users]


def test_every_step_has_a_name_of_its_own() -> None:
    for steps in (LONG, SHORT):
        assert len({step.name for step in steps}) == len(steps)
