"""What did not hold of an upset is said: on hosts that are only told about, with playbooks that are shell."""

from __future__ import annotations

import asyncio
import subprocess
import time
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.chaos.fleet import Fleet, FleetError
from tests.chaos.hostile import harm
from tests.chaos.playbook import Playbook
from tests.chaos.upsets import (
    UPSETS,
    Scene,
    Suffered,
    Upset,
    bring,
    half_the_fleet_gone,
    migration_and_rollback,
    ssh_lost_in_a_step,
    suffer,
    two_migrations,
    wrong_order,
)
from tests.fleet.lab import ENVIRONMENT
from tests.integration.conftest import make_service, ready_redis
from tests.integration.service_process import TOKEN, ServiceProcess
from tests.ledger.answers import Answer, Outcome
from tests.ledger.phases import Phase
from tests.ledger.stores import Store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.ledger.ledger import Ledger
    from tests.servers import RedisServer

__all__ = ["make_service", "ready_redis"]  # fixtures that pytest finds here

TITLE = 'echo "PLAY [(4/5) FLAGS]"'


class ToldScene(Scene):
    """Its `ansible-playbook` is a shell script, its hosts are a folder in which `flag` and `lost` may be."""

    def __init__(self, folder: Path) -> None:
        class Hosts:
            def hosts(self, _group: str) -> list[str]:
                return ["app1", "app2"]

        super().__init__(cast("Fleet", Hosts()), folder / "logs")
        self.folder = folder
        (folder / "flag").write_text("10 %")

    def is_to(self, script: str) -> None:
        program = self.folder / "ansible-playbook"
        title = "" if TITLE in script else TITLE
        program.write_text(f'#!/bin/bash\ncd {self.folder}\necho "$@" >> $0.calls\n{title}\n{script}\n')
        program.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        lines = (self.folder / "ansible-playbook.calls").read_text().splitlines()
        return [line.split("playbooks/")[1].split(" -e migrate_watch")[0] for line in lines]

    async def _inside(self, host: str, script: str) -> str:  # type: ignore[override]
        if script.startswith("grep"):
            return (self.folder / "flag").read_text()
        (self.folder / "lost").write_text(host)
        if "delete" in script:
            (self.folder / "lost").unlink()
        return ""


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ToldScene:
    path = f"{tmp_path}:{ENVIRONMENT['PATH']}"
    monkeypatch.setattr("tests.chaos.playbook.ENVIRONMENT", ENVIRONMENT | {"PATH": path})
    return ToldScene(tmp_path)


RECAP = "echo 'PLAY RECAP ***'; echo 'app2 : ok=3 changed=0 unreachable=0'"
LOSES = f'sleep 0.3; [ ! -e lost ] || {{ echo "fatal: [app2]: UNREACHABLE!"; {RECAP}; exit 4; }}; {RECAP}'
# Whoever is second finds the other's mark
ONE_AT_A_TIME = f"""
me=$([[ $* = *rollback.yml* ]] && echo eve || ([[ $* = *operator=bob* ]] && echo bob || echo ann))
mkdir busy 2> /dev/null || {{ sleep 0.2; echo "$(cat busy/who)@app1 is at work; --take-over, if it is gone"; exit 2; }}
echo $me > busy/who; {TITLE}; sleep 1; rm -r busy; {RECAP}
"""


@pytest.mark.parametrize(
    ("happen", "script"),
    [
        (ssh_lost_in_a_step, LOSES),
        (half_the_fleet_gone, LOSES),
        (two_migrations, ONE_AT_A_TIME),
        (migration_and_rollback, ONE_AT_A_TIME),
        (wrong_order, "echo 33 is none of 1, 10, run this without --limit, see playbooks/rollback.yml; exit 2"),
    ],
)  # fmt: skip
async def test_playbooks_that_do_as_they_should_leave_nothing_to_say(
    scene: ToldScene, happen: Callable[[Scene], Awaitable[list[str]]], script: str
) -> None:
    scene.is_to(script)
    assert await happen(scene) == []
    assert not (scene.folder / "lost").exists()


@pytest.mark.parametrize(
    ("happen", "script", "said"),
    [
        (ssh_lost_in_a_step, RECAP, "it claims success without app2"),
        (ssh_lost_in_a_step, f"sleep 0.3; [ ! -e lost ] || exit 4; {RECAP}", "it does not name app2"),
        (ssh_lost_in_a_step, "sleep 0.3; [ ! -e lost ] || exit 4; exit 2", "the same command does not go on"),
        (ssh_lost_in_a_step, f"{LOSES.replace('changed=0', 'changed=1')}", "once more it changes something"),
        (half_the_fleet_gone, RECAP, "it flipped half of the fleet"),
        (half_the_fleet_gone, f"echo 50 % > flag; {LOSES}", "it changed flags"),
        (two_migrations, "exit 2", "neither of two operators took the step"),
        (two_migrations, f"[[ $* = *operator=ann* ]] || exit 2; {RECAP}", "who was refused is not told by whom (ann@)"),
        (wrong_order, RECAP, "it was not refused"),
        (wrong_order, "exit 2", "it does not say 'playbooks/rollback.yml'"),
        (wrong_order, "echo 50 % > flag; exit 2", "what was refused changed flags"),
        (migration_and_rollback, RECAP, "a rollback went through the middle of a step"),
        (migration_and_rollback, f"[[ $* = *migrate* ]] || exit 2; {RECAP}", "it does not say who is at work"),
        (migration_and_rollback, "exit 2", "the step was not reached"),
    ],
)
async def test_each_thing_that_did_not_hold_is_said(
    scene: ToldScene, happen: Callable[[Scene], Awaitable[list[str]]], script: str, said: str
) -> None:
    scene.is_to(script)
    found = await happen(scene)
    assert any(said in each for each in found), found


async def test_a_playbook_that_waits_for_a_lost_host_for_ever_is_ended(
    scene: ToldScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.chaos.upsets.LOST_WITHIN", 0.5)
    scene.is_to(f"[ -e second ] || {{ touch second; exec sleep 30; }}; {RECAP}")
    began = time.monotonic()
    found = await ssh_lost_in_a_step(scene)
    assert any("it still waited for app2 after" in each for each in found), found
    assert time.monotonic() - began < 10


async def test_a_play_that_never_begins_is_waited_for_no_longer_than_its_playbook(scene: ToldScene) -> None:
    scene.is_to("true")
    playbook = Playbook("a.yml", (), scene.folder / "log")
    running = asyncio.create_task(playbook.run())
    assert await playbook.reached("(4/5)")
    assert not await playbook.reached("(6/6)")
    await running


async def test_a_playbook_under_way_ends_with_what_happens_beside_it(
    scene: ToldScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> str:
        raise FleetError("there is no nft")

    monkeypatch.setattr(ToldScene, "_inside", broken)
    scene.is_to(f"trap 'touch ended; exit 99' INT; {TITLE}; for _ in $(seq 200); do sleep 0.1; done")
    with pytest.raises(FleetError, match="there is no nft"):
        await ssh_lost_in_a_step(scene)
    assert (scene.folder / "ended").exists()


async def test_a_command_that_fails_on_a_host_says_which(scene: ToldScene, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_host: str, script: str) -> str:
        raise subprocess.CalledProcessError(127, script, stderr="nft: not found\n")

    monkeypatch.setattr("tests.fleet.lab.inside", fails)
    with pytest.raises(FleetError, match="on app1, exit 127: nft: not found"):
        await Scene(scene.fleet, scene.folder).equip()


async def test_the_fleet_is_brought_where_an_upset_begins(scene: ToldScene) -> None:
    scene.is_to("true")
    await bring(scene, 50, 50)
    await bring(scene, 0, 100)
    await bring(scene, 100, 10)
    await bring(scene, 10, 0)
    assert scene.calls == [
        "migrate.yml -e migrate_to=100",
        "rollback.yml",
        "migrate.yml -e migrate_to=10",
        "rollback.yml",
    ]
    scene.is_to("echo a gate is closed; exit 2")
    with pytest.raises(FleetError, match=r"the fleet does not come to 100 %(.|\n)*a gate is closed"):
        await bring(scene, 0, 100)


def test_each_upset_begins_where_the_one_before_has_left_the_fleet_and_has_a_name_of_its_own() -> None:
    assert [each.at for each in UPSETS[1:]] == [each.leaves for each in UPSETS[:-1]]
    assert len({each.name for each in UPSETS}) == len(UPSETS)


async def test_whatever_callers_notice_is_a_problem(scene: ToldScene) -> None:
    class MarkedLedger:
        def mark(self, name: str) -> Any:
            phase = Phase(name, 1.0, silence={"overall": 2.0})
            phase.note(Answer(Outcome.NOTHING, "store-unavailable", None, 1.0, 1.1), changes=False)
            return phase

        async def hold(self, _seconds: float) -> None:
            pass

    async def happen(_scene: Scene) -> list[str]:
        return ["it did not hold"]

    ledger = cast("Ledger", MarkedLedger())
    suffered: Suffered = await suffer(scene, ledger, Upset("an upset", happen, 0, 0))
    assert suffered.problems() == [
        "it did not hold",
        "1 requests failed: {'store-unavailable': 1}",
        "silence: 2.0 s, at most 1.5 s",
    ]
    suffered = await suffer(scene, ledger, Upset("an upset", happen, 0, 0), slack=2.0)
    assert len(suffered.problems()) == 2


async def test_the_service_refuses_whatever_hostile_callers_send(
    make_service: Callable[..., ServiceProcess], ready_redis: RedisServer
) -> None:
    service = make_service(ready_redis).start()
    assert await harm([service.url], TOKEN, seconds=0) == []


async def test_a_service_that_takes_hostile_requests_is_found() -> None:
    async with Store() as store:
        found = await harm(store.urls[:1], "token", seconds=0)
    assert any("answered 2" in each for each in found), found
    assert any("connection broken" in each for each in found), found
