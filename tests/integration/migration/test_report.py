"""`session-ops migrate report` on real runs: its figures are the database's, whatever stands in there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from click.testing import CliRunner

from session_ops.cli import main
from session_ops.cli.validate import note_of
from session_ops.migration import samples as samples_module
from session_ops.migration.samples import Samples
from session_ops.migration.throttle import Limits, Throttle
from session_ops.settings import read_settings
from session_ops.settings_table import SETTINGS
from tests.integration.migration.test_move_cli import Operator, settings_of
from tests.integration.migration.test_retire_cli import Finalizing
from tests.pages import Page
from tests.servers import SERVICE_PASSWORD, RedisServer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.migration.moving import Migration

HOSTILE = "</td><script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


@pytest.fixture
def operator(tmp_path: Path, redis_server: RedisServer) -> Operator:
    return Operator(tmp_path, redis_server)


async def invoke(migration: Migration, *arguments: str) -> Any:
    environment = dict.fromkeys(row.name for row in SETTINGS) | settings_of(migration.application, migration.server)
    runner = CliRunner()
    return await asyncio.to_thread(runner.invoke, main, ("migrate", "report", *arguments), env=environment)


async def test_its_figures_are_those_of_the_database(
    migration: Migration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples_module, "EVERY", 0.02)
    await migration.open(rows=1_500)
    await migration.want(100)
    empty = "'[]'" if migration.application.postgresql else "'nonsense'"
    await migration.sql(f"UPDATE visits SET attributes = {empty}, version = version + 1 WHERE sid IN ('s7', 's8')")
    slow = Throttle(Limits(redis=0.0))
    first = await migration.mover(throttle=slow).run(batch=100)
    await migration.want(50)
    second = await migration.move()
    await note_of(
        read_settings(settings_of(migration.application, migration.server)), await migration.validator().run("full")
    )

    done = await invoke(migration, "--json", "--html", str(tmp_path / "report.html"))
    shown = msgspec.json.decode(done.stdout)
    page = Page((tmp_path / "report.html").read_text())

    assert done.exit_code == 0, done.output
    runs = await migration.sql("SELECT run_id, moved_in, moved_back, scanned, quarantined FROM session_runs")
    told = {one["run"]["run_id"]: one["run"] for one in shown["runs"]}
    assert {row[0] for row in runs} == set(told) == {first.run_id, second.run_id}
    for run_id, *counts in runs:
        assert [told[run_id][name] for name in ("moved_in", "moved_back", "scanned", "quarantined")] == counts
    assert told[first.run_id]["moved_in"] == first.moved_in == 1_498
    assert told[second.run_id]["moved_back"] == second.moved_back > 100
    kept = await Samples(migration.store).of(first.run_id)
    [course] = [one for one in shown["runs"] if one["run"]["run_id"] == first.run_id]
    assert len(kept) > 3
    assert course["course"][-1]["moved"] == first.moved_in
    assert max(point["redis_ms"] for point in course["course"]) == round(
        max(sample.redis_us or 0 for sample in kept) / 1000, 2
    )
    assert "Redis takes N ms (limit N)" in [each["reason"] for each in course["throttling"]]
    [reason] = await migration.sql("SELECT reason, count(*) FROM session_quarantine GROUP BY reason")
    assert shown["quarantine"] == {reason[0]: reason[1]} == {reason[0]: 2}
    verdict = await migration.audit.check()
    assert shown["audit"]["lines"] == verdict.lines == len(shown["audit"]["shown"])
    assert shown["audit"]["head"]["hash"] == verdict.head.hash
    [validation] = shown["validations"]
    assert (validation["detail"]["rows"], validation["detail"]["mismatches"]) == (1_500, {})
    for words in (f"Run {first.run_id}", "1,498 sessions in ", "moved to Redis 1,498",
                  f"{verdict.lines} lines", "they agree", "Redis takes N ms (limit N)"):  # fmt: skip
        assert words in page.text, words


async def test_it_is_read_while_a_run_goes_on(migration: Migration, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples_module, "EVERY", 0.0)
    await migration.open(rows=500)
    await migration.want(100)
    seen: list[Any] = []

    async def look(step: str) -> None:
        if step == "put":
            seen.append(await invoke(migration, "--json"))

    await migration.mover(me="ann@elsewhere:8", before=look).run(batch=100)

    assert {done.exit_code for done in seen} == {0}
    [first, *_, last] = [msgspec.json.decode(done.stdout) for done in seen]
    assert first["holder"].startswith("ann@elsewhere:8 (migrate run ")
    assert first["runs"][0]["run"]["state"] == "running"
    assert first["runs"][0]["run"]["moved_in"] < last["runs"][0]["run"]["moved_in"] < 500
    assert last["runs"][0]["run"]["movers"][0]["mover"] == "ann@elsewhere:8"
    assert last["runs"][0]["course"][-1]["moved"] >= last["runs"][0]["run"]["moved_in"]


async def test_without_the_table_of_samples_the_mover_goes_on(
    migration: Migration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples_module, "EVERY", 0.0)
    await migration.open(rows=300)
    await migration.want(100)
    await migration.sql("DROP TABLE session_run_samples")

    assert (await migration.move()).moved_in == 300
    refused = await invoke(migration)
    assert (refused.exit_code, "migrate prepare" in refused.stderr) == (6, True)
    await migration.application.prepare()
    assert (await invoke(migration)).exit_code == 0


async def test_samples_come_further_apart_the_more_there_are(
    migration: Migration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples_module, "EVERY", 0.01)
    monkeypatch.setattr(samples_module, "WIDER", 3)
    await migration.open()
    sampler = samples_module.Sampler(migration.store, "ann@here:1")

    for _ in range(60):
        await sampler.look("a-run", {"moved_in": 1}, Throttle(), None)
        await asyncio.sleep(0.01)

    spans = [sample.span for sample in await Samples(migration.store).of("a-run")]
    assert 4 <= len(spans) <= 14
    assert spans[-1] >= 4 * spans[0]


def test_without_a_run_it_says_so(operator: Operator) -> None:
    shown = operator.json("report")
    text = operator("report").stdout
    page = Page(operator("report", "--html", "-").stdout)

    assert shown["runs"] == []
    assert "run          none yet" in text
    assert "No run yet" in page.text


def test_it_asks_no_redis(operator: Operator) -> None:
    operator("run", "--execute")
    operator.environment["REDIS_PORT"] = "1"

    assert len(operator.json("report")["runs"]) == 1


def test_what_is_hostile_stays_text_and_ids_are_cut(operator: Operator, tmp_path: Path) -> None:
    word = HOSTILE.replace("'", "''")
    operator("run", "--execute")
    operator.sql(
        "INSERT INTO session_quarantine (id, reason, sha256, size, at, run_id)"
        f" VALUES ('{word}', '{word}', '{word}', 1, 1, '{word}')",
        f"UPDATE session_runs SET reason = '{word}', target = '{word}', started_by = '{word}'",
        "INSERT INTO session_steps (number, step, state, reason, began_at, began_by, facts)"
        f" VALUES (1, '{word}', 'stopped', '{word}', 1, '{word}', '[1]'),"
        f" (2, '{word}', 'stopped', '{word}', 1, '{word}', 'no JSON')",
    )
    for who in (HOSTILE, "ann"):
        operator.environment["SESSION_OPERATOR"] = who
        operator("quarantine", "retry", HOSTILE, *(["--execute"] if who == "ann" else []))
    operator("quarantine", "retry", "a-session-id-that-is-long", "--execute")

    done = operator("report", "--html", str(tmp_path / "page"))
    page = Page((tmp_path / "page").read_text())

    assert done.exit_code == 0
    assert page.all("script") == page.all("img") == []
    assert HOSTILE in page.text
    assert "a-session-id-that-is-long" not in page.text
    assert (tmp_path / "page").stat().st_mode & 0o777 == 0o600


def test_a_broken_audit_is_reported_and_has_its_code(operator: Operator, tmp_path: Path) -> None:
    operator("run", "--execute")
    operator.sql("UPDATE session_audit SET who = 'bob@there' WHERE seq = 2")

    done = operator("report", "--html", str(tmp_path / "page"), "--json")

    assert (done.exit_code, msgspec.json.decode(done.stdout)["audit"]["broken"]) == (5, 2)
    assert "the audit is broken at line 2" in done.stderr
    assert "The chain is BROKEN at line 2" in Page((tmp_path / "page").read_text()).text


def test_what_cannot_be_has_its_code(operator: Operator, tmp_path: Path) -> None:
    assert operator("report", "--json", "--html", "-").exit_code == 2
    nowhere = operator("report", "--html", str(tmp_path / "no" / "page"))
    assert (nowhere.exit_code, "cannot write" in nowhere.stderr) == (3, True)
    operator.sql("UPDATE session_stage SET stage = NULL")
    assert operator("report").exit_code == 3
    operator.environment["LEGACY_DATABASE_URL"] = "postgresql://ann:hunter2@127.0.0.1:1/x"
    gone = operator("report")
    assert (gone.exit_code, "hunter2" in gone.output) == (6, False)


def test_no_secret_is_in_it(operator: Operator, tmp_path: Path) -> None:
    operator.environment["SESSION_TOKENS"] = '[{"caller":"a","scopes":["read"],"sha256":"' + "5e" * 32 + '"}]'
    operator.sql('UPDATE visits SET attributes = \'{"card":"planted-in-data"}\', version = version + 1')
    operator("run", "--execute")
    operator("validate")

    done = operator("report", "--html", str(tmp_path / "page"), "--json")
    text = done.output + (tmp_path / "page").read_text()

    assert done.exit_code == 0
    for secret in (SERVICE_PASSWORD, "5e" * 32, "planted-in-data", operator.url):
        assert secret not in text


def test_without_a_legacy_store_any_more_it_tells_what_redis_keeps(tmp_path: Path, redis_server: RedisServer) -> None:
    operator = Finalizing(tmp_path, redis_server)
    before = operator.json("report")
    assert operator.finalize("--accept-loss", "--execute").exit_code == 0

    done = operator.without_legacy("report", "--json", "--html", str(tmp_path / "page"))
    shown = msgspec.json.decode(done.stdout)

    assert done.exit_code == 0, done.output
    assert (shown["kept"], shown["stage"], shown["steps"][0]["step"]) == (True, "final", "final")
    assert [one["run"]["state"] for one in shown["runs"]] == ["done"]
    assert shown["audit"]["lines"] > before["audit"]["lines"]
    assert "this is what Redis keeps" in Page((tmp_path / "page").read_text()).text
    assert operator.json("report")["stage"] == "final", "with the legacy store beside it"
