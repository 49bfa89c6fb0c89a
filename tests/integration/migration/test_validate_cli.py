"""`session-ops migrate validate` as an operator calls it, and as kill -9 ends it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from session_ops.migration.validation import Validator
from tests.integration.migration.application import Application
from tests.integration.migration.mismatches import BY_HAND, PLANTED, REPAIRABLE, SECRET, plant
from tests.integration.migration.moving import Migration
from tests.integration.migration.test_move_cli import Operator, settings_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers import RedisServer


@pytest.fixture
def operator(tmp_path: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Operator:
    """What differs is looked at again at once: nobody else is at work here."""
    monkeypatch.setitem(Validator.__init__.__kwdefaults__, "pauses", (0.01, 0.05))
    made = Operator(tmp_path, redis_server)
    made.sql("UPDATE session_stage SET percent = 100")
    assert made("run", "--execute").exit_code == 0
    return made


def spoil(operator: Operator, server: RedisServer) -> None:
    async def run() -> None:
        application = Application(operator.url, None)
        migration = Migration(application, server)
        await plant(migration)
        await migration.close()
        await application.database.close()

    asyncio.run(run())


def test_it_says_that_the_stores_agree_or_what_differs_without_showing_it(
    operator: Operator, redis_server: RedisServer
) -> None:
    agree = operator("validate", "--full")
    assert (agree.exit_code, "-- the stores agree" in agree.stdout) == (0, True)
    assert "Redis 300, the legacy store 0" in agree.stdout
    assert operator("validate").exit_code == 0

    spoil(operator, redis_server)
    for way in (("--full",), ("--digest",), ("--sample", "2000")):
        done = operator("validate", *way, "--json")
        shown = msgspec.json.decode(done.stdout)
        assert (done.exit_code, f"{len(PLANTED)} mismatches" in done.stderr) == (5, True)
        assert {each["id"]: each["kind"] for each in shown["mismatches"]} == PLANTED
        assert SECRET not in done.output
    text = operator("validate", "--full")
    assert "'s20' content: data sha256:" in text.stdout
    assert "'s21' content: expires_at 9000000000001 / 9000000000000" in text.stdout
    assert "-- 1 two owners. a person decides:" in text.stdout
    assert SECRET not in text.output


def test_a_repair_is_shown_first_and_then_made(operator: Operator, redis_server: RedisServer) -> None:
    spoil(operator, redis_server)
    shown = operator("validate", "--full", "--repair")
    assert (shown.exit_code, "-- nothing was changed; add --execute" in shown.stdout) == (5, True)
    assert len(msgspec.json.decode(operator("validate", "--full", "--json").stdout)["mismatches"]) == len(PLANTED)

    done = operator("validate", "--full", "--repair", "--execute", "--json")

    assert (done.exit_code, f"{len(BY_HAND)} mismatches" in done.stderr) == (5, True)
    assert sorted(msgspec.json.decode(done.stdout)["repaired"]) == sorted(REPAIRABLE)
    left = operator("validate", "--full", "--json")
    assert {each["id"] for each in msgspec.json.decode(left.stdout)["mismatches"]} == set(BY_HAND)


def test_what_cannot_be_has_its_code(operator: Operator, tmp_path: Path) -> None:
    assert operator("validate", "--execute").exit_code == 2
    assert operator("validate", "--full", "--sample", "3").exit_code == 2
    (tmp_path / "no").write_text("no")
    refused = operator("validate", "--full", "--resume", str(tmp_path / "no"))
    assert (refused.exit_code, "not of a validation" in refused.stderr) == (3, True)
    operator.environment["REDIS_PORT"] = "1"
    assert operator("validate").exit_code == 7
    operator.environment["LEGACY_DATABASE_URL"] = "postgresql://ann:hunter2@127.0.0.1:1/x"
    gone = operator("validate")
    assert (gone.exit_code, "hunter2" in gone.output) == (6, False)


def begun(environment: dict[str, str], keep: Path) -> subprocess.Popen[str]:
    words = ("migrate", "validate", "--full", "--json", "--rate", "600", "--resume", str(keep))
    return subprocess.Popen(
        [sys.executable, "-m", "session_ops.cli", *words],
        env={"PATH": os.environ["PATH"], **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    return await asyncio.to_thread(process.communicate)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 8)])
async def test_one_that_is_killed_or_told_to_stop_is_gone_on_with_by_the_same_command(
    migration: Migration, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    await migration.open(rows=1_200)
    await migration.want(100)
    await migration.move()
    keep = tmp_path / "validation"
    environment = settings_of(migration.application, migration.server)
    process = begun(environment, keep)

    deadline = time.monotonic() + 60
    while not (keep.exists() and msgspec.json.decode(keep.read_bytes())["rows"]):
        assert time.monotonic() < deadline, "nothing is remembered"
        await asyncio.sleep(0.05)
    process.send_signal(number)
    _, said = await ended(process)
    again: Any = begun(environment, keep)
    output, _ = await ended(again)
    shown = msgspec.json.decode(output)

    assert process.returncode == code, said
    assert again.returncode == 0
    assert (shown["resumed"], shown["rows"], shown["records"]) == (True, 1_200, 1_200)
    assert not keep.exists()
