"""`session-ops migrate finalize`, `mirror` and `archive`, as an operator calls them."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from click.testing import CliRunner

from session_ops.cli import main
from tests.integration.migration.test_move_cli import Operator
from tests.owned import as_administrator

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers import RedisServer

HOST = (
    "INSERT INTO session_hosts (host, pid, use_redis, percent, started_at, seen_at, generation, mode, detail)"
    f" SELECT 'app1', 7, TRUE, 100, 0, {2**60}, generation, mode, pin FROM session_control"
)
FOLLOW = (
    "CREATE TRIGGER follow AFTER UPDATE ON session_control BEGIN UPDATE session_hosts SET"
    " generation = NEW.generation, mode = NEW.mode, detail = NEW.pin; END"
)


class Finalizing(Operator):
    """Every session is in Redis, and one host shows at once whatever the control row says."""

    def __init__(self, directory: Path, server: RedisServer) -> None:
        super().__init__(directory, server)
        reached = ("stage", "end", "100", "--reached", "--execute")
        for arguments in (("stage", "begin", "100", "--execute"), ("run", "--execute"), reached):
            self.sql("DELETE FROM session_hosts", HOST)
            assert self(*arguments).exit_code == 0
        self.sql(FOLLOW)
        self.environment["SESSION_LEASE"] = "1"

    def key(self, mode: str) -> None:
        """What the generation key says."""
        prefix = self.sql("SELECT prefix FROM session_control")[0][0]
        asyncio.run(as_administrator(self._server, "SET", f"generation:{prefix}:{{0}}", mode))

    @property
    def run_id(self) -> str:
        return str(self.json("status")["run"]["run_id"])

    def finalize(self, *more: str) -> Any:
        return self("finalize", "--run", self.run_id, "--after", "0", *more)

    def without_legacy(self, *arguments: str) -> Any:
        prefix = self.sql("SELECT prefix FROM session_control")[0][0]
        environment = {**self.environment, "LEGACY_DATABASE_URL": None, "SESSION_GENERATION_PREFIX": prefix}
        return CliRunner().invoke(main, ("migrate", *arguments), env=environment)


@pytest.fixture
def operator(tmp_path: Path, redis_server: RedisServer) -> Finalizing:
    return Finalizing(tmp_path, redis_server)


def test_it_says_what_it_will_do_and_what_may_be_lost_and_asks(operator: Finalizing) -> None:
    shown = operator.finalize()
    assert shown.exit_code == 0, shown.output
    assert "will         2. hold: no session moves back" in shown.stdout
    assert "then         this is one Redis without a replica" in shown.stdout
    assert "-- nothing was changed; add --execute" in shown.stdout
    asked = operator.finalize("--execute")
    assert (asked.exit_code, "--accept-loss" in asked.stderr) == (3, True)
    unnamed = operator("finalize", "--execute")
    assert unnamed.exit_code == 3
    assert "the run is to be named" in unnamed.stderr
    assert "24.0 h are left of 24 h" in unnamed.stderr
    assert operator.sql("SELECT mode FROM session_control")[0][0] == "mirror"


def test_final_archived_told_without_a_legacy_store_and_mirrored_again(operator: Finalizing, tmp_path: Path) -> None:
    file = tmp_path / "sessions.jsonl.gz"
    early = operator("archive", str(file))
    assert (early.exit_code, "finalize first" in early.stderr) == (3, True)

    done = operator.finalize("--accept-loss", "--execute")
    assert done.exit_code == 0, done.output
    prefix = operator.sql("SELECT prefix FROM session_control")[0][0]
    assert f"SESSION_GENERATION_PREFIX is {prefix}" in done.stdout
    assert "it is final already" in operator.finalize("--accept-loss", "--execute").stdout
    assert operator("run", "--execute").exit_code == 3

    archived = operator.json("archive", str(file))
    rows = operator.sql("SELECT count(*) FROM visits")[0][0]
    assert (archived["rows"], file.stat().st_mode & 0o777) == (rows, 0o600)
    lines = [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
    assert lines[0]["prefix"] == prefix
    assert lines[1]["sid"] == min(line["sid"] for line in lines[1:-1])
    assert json.loads(lines[1]["attributes"]) == {"step": 1}
    assert operator.json("archive", str(file), "--check")["sha256"] == archived["sha256"]
    again = operator("archive", str(file))
    assert (again.exit_code, "not overwritten" in again.stderr) == (3, True)
    file.write_bytes(file.read_bytes()[:-9] + bytes(9))
    spoilt = operator("archive", str(file), "--check")
    assert (spoilt.exit_code, "checksum" in spoilt.stderr) == (3, True)

    status = operator.without_legacy("status", "--json")
    assert msgspec.json.decode(status.stdout)["stage"] == "final"
    assert f"prefix {prefix}: it alone keeps the sessions" in operator.without_legacy("status").stdout
    audit = operator.without_legacy("audit")
    assert (audit.exit_code, "the chain holds" in audit.stdout) == (0, True)
    assert "stage reached" in audit.stdout
    assert operator.without_legacy("run", "--execute").exit_code == 3

    assert "its key says final" in operator("mirror").stdout
    mirrored = operator("mirror", "--execute")
    assert mirrored.exit_code == 0, mirrored.output
    assert "the stores agree" in mirrored.stdout
    assert "nothing to do" in operator("mirror", "--execute").stdout
    assert operator.json("status")["stage"] == "soak"
    back = CliRunner().invoke(main, ("rollback", "--begin", "--execute"), env=operator.environment)
    assert back.exit_code == 0, back.output


def test_a_hold_that_was_left_is_given_up(operator: Finalizing) -> None:
    assert "nothing is held" in operator("finalize", "--abandon", "--execute").stdout
    operator.sql("UPDATE session_control SET mode = 'hold'")
    operator.key("hold")
    would = operator("finalize", "--abandon")
    assert "would be given up" in would.stdout
    assert operator("finalize", "--abandon", "--execute").exit_code == 0
    assert operator.sql("SELECT mode FROM session_control")[0][0] == "mirror"


def test_a_rollback_gives_a_hold_up(operator: Finalizing) -> None:
    operator.sql("UPDATE session_control SET mode = 'hold'")
    operator.key("hold")
    assert "the hold is given up" in CliRunner().invoke(main, ("rollback",), env=operator.environment).stdout
    begun = CliRunner().invoke(main, ("rollback", "--begin", "--execute"), env=operator.environment)
    assert begun.exit_code == 0, begun.output
    assert operator.sql("SELECT mode FROM session_control")[0][0] == "mirror"


def test_without_a_migration_there_is_nothing_to_tell(operator: Finalizing) -> None:
    told = operator.without_legacy("status")
    assert (told.exit_code, "keeps no account of a migration" in told.stderr) == (3, True)
