"""`session-ops rollback`: from any stage, with Redis up, down or empty, twice as well as once, by anybody."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.integration.migration.moving import LEASE
from tests.integration.migration.test_move_cli import Operator
from tests.servers import DEFAULT_PROGRAM, RedisServer

if TYPE_CHECKING:
    from pathlib import Path

HOST_ON = (
    "INSERT INTO session_hosts (host, pid, use_redis, percent, started_at, seen_at)"
    f" VALUES ('app1', 7, TRUE, 10, 0, {2**60})"
)


class Rollback(Operator):
    """An operator whose 300 sessions are half in Redis."""

    def __init__(self, directory: Path, server: RedisServer) -> None:
        super().__init__(directory, server)
        assert self("run", "--execute").exit_code == 0

    def back(self, *arguments: str) -> Any:
        from click.testing import CliRunner  # noqa: PLC0415 - as the command line itself does

        from session_ops.cli import main  # noqa: PLC0415

        return CliRunner().invoke(main, ("rollback", *arguments), env=self.environment)

    def answer(self, *arguments: str) -> dict[str, Any]:
        done = self.back(*arguments, "--json")
        assert done.exit_code == 0, done.output
        answer: dict[str, Any] = msgspec.json.decode(done.stdout)
        return answer

    def in_redis(self) -> int:
        [(count,)] = self.sql(
            "SELECT count(*) FROM visits v, session_control c WHERE v.owner = 'redis' AND v.generation = c.generation"
        )
        return int(count)

    def stage(self) -> tuple[Any, ...]:
        [row] = self.sql("SELECT stage, use_redis, percent, canary_ids FROM session_stage")
        return tuple(row)

    def control(self) -> tuple[Any, ...]:
        [row] = self.sql("SELECT generation, redis, pin FROM session_control")
        return tuple(row)


@pytest.fixture
def server(tmp_path: Path) -> Any:
    """A Redis of the test's own, which it may stop."""
    (tmp_path / "redis").mkdir()
    made = RedisServer(tmp_path / "redis", DEFAULT_PROGRAM).start()
    yield made
    made.stop()


@pytest.fixture
def operator(tmp_path: Path, server: RedisServer) -> Rollback:
    return Rollback(tmp_path, server)


def test_it_first_says_what_it_will_do_and_what_it_cannot(operator: Rollback) -> None:
    there = operator.in_redis()
    before = (operator.stage(), operator.control(), there)
    shown = operator.back()

    assert shown.exit_code == 0
    assert f"in Redis     {there:,} sessions" in shown.stdout
    assert "will         1. the stage says: every session to the legacy store" in shown.stdout
    assert f"2. {there:,} sessions go home by the mover" in shown.stdout
    assert "cannot       turn off the flags of the hosts" in shown.stdout
    assert "-- nothing was changed; add --execute" in shown.stdout
    assert "generation 1 ends without Redis" in operator.back("--redis-lost").stdout
    assert (operator.stage(), operator.control(), operator.in_redis()) == before
    assert 100 < there < 200


def test_the_sessions_go_home_and_a_second_time_nothing_changes(operator: Rollback) -> None:
    there = operator.in_redis()
    done = operator.answer("--execute")

    assert (done["changed"], done["moved"], done["generation"]) == (True, there, None)
    assert done["validated"]["in_legacy"] == 300
    assert operator.in_redis() == 0
    assert operator.stage() == ("prepared", 0, 0, "[]")
    assert operator.control()[:2] == (1, "on"), "Redis stays, for the next try"
    again = operator.answer("--execute")
    assert (again["changed"], again["moved"]) == (False, 0)
    assert not operator.answer()["changed"]
    assert "nothing to do" in operator.back().stdout


def test_redis_can_be_turned_off_behind_it_and_prepare_undone(operator: Rollback) -> None:
    assert operator("prepare", "--undo", "--execute").exit_code == 3
    done = operator.answer("--redis-off", "--execute")

    assert (done["generation"], operator.control()) == (2, (2, "off", None))
    assert not operator.answer("--redis-off", "--execute")["changed"]
    assert operator("prepare", "--undo", "--execute").exit_code == 0
    assert "the table is not prepared" in operator.back().stdout
    for way in ((), ("--begin",), ("--redis-lost",)):
        assert not operator.answer("--execute", *way)["changed"]


def test_a_stage_alone_can_be_set_before_the_flags(operator: Rollback) -> None:
    there = operator.in_redis()
    assert operator.answer("--begin", "--execute")["changed"]
    assert (operator.stage()[1], operator.in_redis()) == (0, there)
    assert not operator.answer("--begin", "--execute")["changed"]
    steps = "SELECT step, state FROM session_steps ORDER BY number"
    assert [tuple(row) for row in operator.sql(steps)] == [("rollback", "begun")]
    assert operator.answer("--execute")["moved"] == there
    assert [tuple(row) for row in operator.sql(steps)] == [("rollback", "reached")]
    assert operator("audit").exit_code == 0, "the chain of the audit holds"


def test_a_step_that_somebody_else_is_in_the_middle_of_is_taken_over_only_when_that_is_said(operator: Rollback) -> None:
    operator.sql(
        "INSERT INTO session_steps (number, step, state, began_at, began_by)"
        " VALUES (1, '50', 'begun', 1, 'bob@elsewhere')"
    )
    held = operator.back("--execute")
    assert (held.exit_code, "bob@elsewhere is in the middle of step 50" in held.stderr) == (4, True)
    assert operator.answer("--execute", "--take-over")["changed"]
    refused = operator("stage", "end", "50", "--reached", "--execute")
    assert (refused.exit_code, "the last step is rollback" in refused.stderr) == (4, True)


def test_a_host_whose_flag_is_on_is_named_and_nothing_is_changed(operator: Rollback) -> None:
    before = operator.stage()
    operator.sql(HOST_ON)
    refused = operator.back("--execute")
    assert (refused.exit_code, "the flag is on at app1" in refused.stderr) == (3, True)
    assert operator.stage() == before
    assert "on are app1" in operator.back().stdout
    forced = operator.back("--redis-lost", "--execute")
    assert forced.exit_code == 0, "a forced rollback does not need the flags"


def test_another_operator_is_named_and_taken_over_only_when_that_is_said(operator: Rollback) -> None:
    operator.sql(f"UPDATE session_lock SET holder = 'bob@elsewhere:7', purpose = 'migrate run x', until = {2**60}")
    before = operator.stage()
    for way in ((), ("--begin",), ("--redis-lost",)):
        held = operator.back("--execute", *way)
        assert (held.exit_code, "bob@elsewhere:7 is at work" in held.stderr) == (4, True)
    assert operator.stage() == before
    assert "at work      bob@elsewhere:7" in operator.back().stdout
    assert operator.answer("--execute", "--take-over")["validated"]["in_legacy"] == 300
    [(holder,)] = operator.sql("SELECT holder FROM session_lock")
    assert holder is None


@pytest.mark.parametrize("redis", ["up", "down", "empty"])
def test_by_force_every_session_is_the_legacy_stores_at_once(
    operator: Rollback, server: RedisServer, redis: str, tmp_path: Path
) -> None:
    if redis != "up":
        server.stop()
        refused = operator.back("--execute")
        assert (refused.exit_code, "--redis-lost does without it" in refused.stderr) == (7, True), refused.output
        assert operator.stage()[1], "nothing was changed"
    if redis == "empty":
        (tmp_path / "again").mkdir()
        empty = RedisServer(tmp_path / "again", DEFAULT_PROGRAM).start()
        operator.environment["REDIS_PORT"] = str(empty.port)
    began = time.monotonic()
    done = operator.answer("--redis-lost", "--execute")
    took = time.monotonic() - began
    if redis == "empty":
        empty.stop()

    assert (done["changed"], done["generation"], operator.control()) == (True, 2, (2, "off", None))
    assert (operator.in_redis(), operator.stage()) == (0, ("prepared", 0, 0, "[]"))
    assert LEASE + 1 <= took < LEASE + 6, "the lease and one second, always"
    assert not operator.answer("--redis-lost", "--execute")["changed"]
    assert operator.control()[0] == 2, "no second bump"
    assert not operator.answer("--execute")["changed"]
    assert operator("validate", "--full").exit_code == 0


def test_a_generation_that_hosts_have_given_up_is_ended_so_that_they_do_not_come_back(operator: Rollback) -> None:
    operator.sql("UPDATE session_control SET generation = 2, redis = 'away', pin = NULL, prefix = NULL")
    assert operator.answer("--redis-lost", "--execute")["generation"] == 3
    assert operator.control()[1] == "off"


def test_where_it_cannot_be_it_says_why(operator: Rollback) -> None:
    operator.sql("UPDATE session_control SET mode = 'final'")
    for way in ((), ("--redis-lost",), ("--begin",)):
        final = operator.back("--execute", *way)
        assert (final.exit_code, "migrate_to=mirror" in final.stderr) == (3, True)
    assert operator.stage()[1], "nothing was changed"
    assert operator.back("--redis-lost", "--redis-off").exit_code == 2
    operator.environment["LEGACY_DATABASE_URL"] = "postgresql://ann:hunter2@127.0.0.1:1/x"
    gone = operator.back("--execute")
    assert (gone.exit_code, "hunter2" in gone.output) == (6, False)


def test_stores_that_do_not_agree_keep_redis_on_and_have_their_code(operator: Rollback) -> None:
    [(sid,)] = operator.sql("SELECT min(sid) FROM visits")
    operator.sql(f"UPDATE visits SET bucket = bucket + 1 WHERE sid = '{sid}'")
    done = operator.back("--redis-off", "--execute")
    assert (done.exit_code, "1 mismatches" in done.stderr) == (5, True)
    assert operator.control()[1] == "on"
