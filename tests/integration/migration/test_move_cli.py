"""`session-ops migrate run` and its kin, as an operator calls them, and as kill -9 ends them."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from click.testing import CliRunner

from session_ops.cli import main
from session_ops.settings_table import SETTINGS
from tests.integration.migration.application import COLUMNS, Application
from tests.integration.migration.moving import Migration
from tests.servers import SERVICE_PASSWORD, SERVICE_USER, RedisServer

if TYPE_CHECKING:
    from pathlib import Path

KILLS = int(os.environ.get("KILLS", "4"))
"""Of each database; more with the environment variable."""


def settings_of(application: Application, server: RedisServer) -> dict[str, str]:
    return {
        "LEGACY_DATABASE_URL": application.url,
        "LEGACY_TABLE": application.table,
        "LEGACY_COLUMNS": COLUMNS,
        "REDIS_PORT": str(server.port),
        "REDIS_USERNAME": SERVICE_USER,
        "REDIS_PASSWORD": SERVICE_PASSWORD,
    }


class Operator:
    """Calls `session-ops migrate` with the settings of an application of 300 sessions in SQLite."""

    def __init__(self, directory: Path, server: RedisServer) -> None:
        self.url = f"sqlite:///{directory}/application.db"
        self._server = server
        application = Application(self.url, None)
        self.environment: dict[str, str | None] = {
            **{row.name: None for row in SETTINGS},
            **settings_of(application, server),
        }
        asyncio.run(self._open(application))

    async def _open(self, application: Application) -> None:
        migration = await Migration(application, self._server).open(rows=300)
        await migration.want(50, "s1")
        await migration.close()
        await application.database.close()

    def __call__(self, *arguments: str) -> Any:
        return CliRunner().invoke(main, ("migrate", *arguments), env=self.environment)

    def json(self, *arguments: str) -> Any:
        done = self(*arguments, "--json")
        assert done.exit_code == 0, done.output
        return msgspec.json.decode(done.stdout)

    def sql(self, *statements: str) -> Any:
        async def run() -> Any:
            application = Application(self.url, None)
            try:
                return await application.sql(*statements)
            finally:
                await application.database.close()

        return asyncio.run(run())


@pytest.fixture
def operator(tmp_path: Path, redis_server: RedisServer) -> Operator:
    return Operator(tmp_path, redis_server)


def test_nothing_is_moved_until_it_is_asked_for_and_then_the_status_says_so(operator: Operator) -> None:
    shown = operator("run")
    would = operator.json("run")
    plan = operator.json("plan")
    assert "50 % of the sessions and 1 canaries to Redis" in shown.stdout
    assert "-- nothing was changed; add --execute" in shown.stdout
    assert would["to_redis"] == plan["to_redis"]
    assert 100 < plan["to_redis"] < 200
    assert operator.sql("SELECT count(*) FROM visits WHERE owner = 'redis'")[0][0] == 0
    assert operator.json("status")["run"] is None

    done = operator("run", "--execute")
    status = operator.json("status")

    assert done.exit_code == 0, done.output
    assert f"done: {plan['to_redis']} moved to Redis, 0 back" in done.stdout
    assert (status["run"]["state"], status["run"]["moved_in"]) == ("done", plan["to_redis"])
    assert status["holder"] is None
    assert "50 % of the sessions" in operator("status").stdout
    assert operator.json("run", "--execute")["moved_in"] == 0
    plan = operator("plan", "--percent", "100").stdout
    assert "it fits" in plan or "no maxmemory" in plan


@pytest.mark.parametrize(
    ("command", "code"),
    [(("run", "--execute"), 7), (("validate",), 7), (("stage", "begin", "60"), 3)],
)
def test_a_wrong_password_is_said_with_its_user_and_never_shown(
    operator: Operator, command: tuple[str, ...], code: int
) -> None:
    operator.environment["REDIS_PASSWORD"] = "wrong-canary"
    began = time.monotonic()
    refused = operator(*command)
    assert (refused.exit_code, time.monotonic() - began < 5) == (code, True), refused.output
    assert SERVICE_USER in refused.stderr
    assert "wrong password" in refused.stderr
    assert "wrong-canary" not in refused.output
    assert operator.sql("SELECT count(*) FROM visits WHERE owner = 'redis'")[0][0] == 0


def test_one_session_can_be_brought_home(operator: Operator) -> None:
    assert operator.json("one", "s1") == {
        "home": "redis", "owner": "legacy", "changed": True,
        "target": "50 % of the sessions and 1 canaries to Redis, the others to the legacy store",
    }  # fmt: skip
    assert operator.json("one", "s1", "--execute")["owner"] == "redis"
    assert not operator.json("one", "s1", "--execute")["changed"]
    operator.sql("UPDATE session_stage SET use_redis = FALSE")
    assert operator.json("one", "s1", "--execute")["owner"] == "legacy"
    assert operator.json("one", "nobody", "--execute")["owner"] == "absent"


def test_what_is_in_the_way_has_its_code_and_one_line(operator: Operator) -> None:
    refused = operator("pause", "--execute")
    assert (refused.exit_code, "no run is in progress" in refused.stderr) == (3, True)
    assert operator("run", "--execute", "--join").exit_code == 3

    operator.sql(f"UPDATE session_lock SET holder = 'bob@elsewhere:7', purpose = 'x', until = {2**60}")
    held = operator("run", "--execute")
    assert (held.exit_code, "bob@elsewhere:7 is at work" in held.stderr) == (4, True)
    assert operator("run", "--execute", "--take-over").exit_code == 0

    operator.environment["REDIS_PORT"] = "1"
    operator.sql("UPDATE session_stage SET percent = 100")
    down = operator("run", "--execute")
    assert (down.exit_code, "redis" in down.stderr) == (7, True)
    operator.environment["LEGACY_DATABASE_URL"] = "postgresql://ann:hunter2@127.0.0.1:1/x"
    gone = operator("run", "--execute")
    assert (gone.exit_code, "hunter2" in gone.output) == (6, False)


def test_the_quarantine_is_listed_and_let_go(operator: Operator) -> None:
    operator.sql("UPDATE visits SET attributes = 'nonsense', version = version + 1 WHERE sid = 's1'")

    assert operator.json("run", "--execute")["quarantined"] == 1
    listed = operator.json("quarantine", "list")

    assert listed["reasons"] == {"data: not JSON": 1}
    assert [row["id"] for row in listed["rows"]] == ["s1"]
    assert "'s1'" in operator("quarantine", "list").stdout
    assert operator("quarantine", "retry").exit_code == 2
    assert operator.json("quarantine", "retry", "s1")["rows"] == 1
    assert operator.json("quarantine", "retry", "--all", "--execute")["rows"] == 1
    assert operator.json("quarantine", "list")["rows"] == []


def test_the_audit_is_shown_and_a_broken_one_has_its_code(operator: Operator) -> None:
    operator.environment["SESSION_OPERATOR"] = "carol"
    operator("run", "--execute")
    operator("quarantine", "retry", "s1", "--execute")
    shown = operator.json("audit", "--last", "2")
    text = operator("audit").stdout
    anchor = "{seq}:{hash}".format(**shown["head"])

    assert [line["what"] for line in shown["shown"]] == ["run done", "lock released"]
    assert all(line["who"].startswith("carol@") and line["run"] for line in shown["shown"])
    assert "the chain holds" in text
    assert f"-- head {anchor}" in text
    assert operator("audit", "--anchor", anchor).exit_code == 0
    assert operator("audit", "--anchor", "1").exit_code == 2
    assert operator("audit", "--anchor", f"1:{anchor[-64:]}").exit_code == 5

    operator.sql("UPDATE session_audit SET who = 'bob@there' WHERE seq = 3")
    broken = operator("audit", "--json")

    assert (broken.exit_code, msgspec.json.decode(broken.stdout)["broken"]) == (5, 3)
    assert "the audit is broken at line 3: it was changed after it was written" in broken.stderr


def begun(environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "session_ops.cli", "migrate", "run", "--execute", *arguments],
        env={"PATH": os.environ["PATH"], **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def until_moving(migration: Migration, pid: int) -> None:
    """Wait until the process itself has a slice in work, not only one that a dead mover has left."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        rows = await migration.sql(f"SELECT count(*) FROM session_slices WHERE holder LIKE '%%:{pid}'")
        if rows[0][0]:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("nothing moves")


async def test_a_process_that_is_killed_anywhere_is_gone_on_with(migration: Migration) -> None:
    await migration.open(rows=3_000)
    draw = random.Random(KILLS)  # noqa: S311 - no secret
    environment = settings_of(migration.application, migration.server)
    killed = 0
    for number in range(KILLS):
        await migration.want(100, on=number % 2 == 0)
        process = begun(environment, "--batch", "100", "--rate", "2000")
        await until_moving(migration, process.pid)
        await asyncio.sleep(draw.uniform(0, 0.5))
        process.send_signal(signal.SIGKILL)
        killed += await asyncio.to_thread(process.wait) == -signal.SIGKILL
        process.communicate()
    await migration.want(100)
    done = await migration.move()

    assert killed >= KILLS - 1
    assert (done.state, await migration.owners()) == ("done", {"redis": 3_000})
    assert done.again <= 100
    assert await migration.disagreements() == []
    assert not (await migration.move()).changed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_behind_the_batch_with_the_code_that_says_run_it_again(
    migration: Migration, number: signal.Signals
) -> None:
    await migration.open(rows=2_000)
    await migration.want(100)
    process = begun(settings_of(migration.application, migration.server), "--batch", "50", "--rate", "1000")
    await until_moving(migration, process.pid)
    process.send_signal(number)
    output, said = await asyncio.to_thread(process.communicate)

    assert process.returncode == 8, said
    assert f"stopped: interrupted by {number.name}" in said
    assert "moved to Redis" in output
    assert await migration.disagreements() == []
    left = (await migration.owners())["legacy"]
    assert left > 0
    assert (await migration.move()).moved_in == left
