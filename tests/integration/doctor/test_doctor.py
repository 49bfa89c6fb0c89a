"""`session-ops doctor` names what is wrong with a fleet, and nothing where nothing is; it changes nothing."""

from __future__ import annotations

import asyncio
import shutil
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import pytest
from click.testing import CliRunner

from session_ops.cli import main
from session_ops.doctor import host_checks
from session_ops.doctor.findings import KINDS
from session_ops.settings_table import SETTINGS
from session_ops.stores.layout import Names
from session_ops.stores.library import LIBRARY_FILE
from tests.integration.doctor.patient import BUSY, MAXMEMORY, Patient, findings_of, report_live
from tests.integration.doctor.spoils import SPOILS, Spoil
from tests.integration.migration.test_move_cli import settings_of
from tests.integration.migration.test_retire_cli import Finalizing
from tests.owned import as_administrator
from tests.protocol.slow_link import slow_link
from tests.servers import RedisServer, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.integration.migration.moving import Migration
    from tests.integration.service_process import ServiceProcess

ELSEWHERE = {
    "service-down", "service-not-ready", "flag-not-read", "secret-readable", "disk-full", "clock-skew", "redis-slow",
    "legacy-slow", "legacy-password", "legacy-refuses", "redis-refuses",
}  # fmt: skip
"""Found by a test of its own below."""

BY_UNIT_TEST = {"redis-fragmented", "version-old"}
"""What no server here can be brought to: a test without one has it."""


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Patient]:
    directory = tmp_path_factory.mktemp("patient")
    server = RedisServer(directory / "redis").start()
    yield Patient(directory, server)
    server.stop()


def test_every_finding_is_provoked_by_a_test() -> None:
    assert {name for spoil in SPOILS for name in spoil.names} | ELSEWHERE | BY_UNIT_TEST == set(KINDS)


def test_a_healthy_fleet_has_no_finding(patient: Patient) -> None:
    done = patient.doctor("--json")
    shown = msgspec.json.decode(done.stdout)

    assert findings_of(done) == (0, {})
    assert "-- looked at: settings, secrets, disk, legacy connection" in patient.doctor().stdout
    assert list(shown["left_out"]) == ["service"]
    assert shown["facts"]["sessions"] == {"rows": 200, "records": 200, "mismatches": {}}
    assert shown["facts"]["redis"]["version"].startswith("7.0.")


def filled(patient: Patient, words: tuple[str, ...]) -> tuple[str, ...]:
    if not any("{" in word for word in words):
        return words
    names = Names(patient.prefix, 0)
    values = {
        "{maxmemory}": MAXMEMORY,
        "{generation}": names.generation.decode(),
        "{session}": names.session_key("s1").decode(),
        "{library}": LIBRARY_FILE.read_text(),
    }
    if "{used}" in words:
        info = patient.redis("INFO", "memory").decode()
        used = int(next(line for line in info.splitlines() if line.startswith("used_memory:")).partition(":")[2])
        values["{used}"] = str(int(used * 1.02))
    return tuple(values.get(word, word) for word in words)


@pytest.fixture
def spoilt(request: pytest.FixtureRequest, patient: Patient) -> Iterator[Spoil]:
    spoil: Spoil = request.param
    [(trigger,)] = patient.sql("SELECT sql FROM sqlite_master WHERE name = '_session_ops_update'")
    for words in spoil.redis:
        patient.redis(*filled(patient, words))
    if spoil.sql:
        patient.sql(*(trigger if one == "{update}" else one for one in spoil.sql))
    yield spoil
    for words in spoil.heal_redis:
        patient.redis(*filled(patient, words))
    if spoil.heal_sql:
        patient.sql(*(trigger if one == "{update}" else one for one in spoil.heal_sql))


@pytest.mark.parametrize("spoilt", SPOILS, ids=[spoil.name for spoil in SPOILS], indirect=True)
def test_it_names_what_is_wrong(patient: Patient, spoilt: Spoil) -> None:
    code, found = patient.found(**spoilt.environment)

    assert (code, set(found)) == (spoilt.code, set(spoilt.names)), found
    assert spoilt.naming in found[spoilt.names[0]]
    assert "hunter2" not in str(found)


def test_the_healed_fleet_has_no_finding(patient: Patient) -> None:
    assert patient.found() == (0, {})


def test_it_changes_nothing(patient: Patient) -> None:
    def state() -> Any:
        tables = patient.sql("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        rows = {
            name: patient.sql(f"SELECT * FROM {name} ORDER BY 1, 2") for (name,) in tables if name != "sqlite_stat1"
        }
        info = dict(line.split(":", 1) for line in patient.redis("INFO").decode().splitlines() if ":" in line)
        return rows, patient.redis("DBSIZE"), info["rdb_changes_since_last_save"]

    before = state()
    patient.doctor()
    assert state() == before


def test_a_finding_says_what_it_means_and_what_to_do(patient: Patient) -> None:
    done = patient.doctor(REDIS_PORT="1")

    assert "error    redis-unreachable: Redis at 127.0.0.1:1: unreachable" in done.stdout
    assert "it means: nothing answers at REDIS_HOST:REDIS_PORT" in done.stdout
    assert "to mend it: systemctl status redis-server" in done.stdout
    assert "left out rights: Redis: unreachable" in done.stdout
    assert "-- errors 1, warnings " in done.stdout
    assert "docs/troubleshooting.md has more" in done.stdout


def test_files_with_secrets_that_others_may_read(patient: Patient, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text(patient.settings["REDIS_PASSWORD"])
    secret.chmod(0o644)

    code, found = patient.found(REDIS_PASSWORD="", REDIS_PASSWORD_FILE=str(secret))
    assert (code, found) == (0, {"secret-readable": f"{secret} (REDIS_PASSWORD) has mode 0644"})
    secret.chmod(0o600)
    assert patient.found(REDIS_PASSWORD="", REDIS_PASSWORD_FILE=str(secret)) == (0, {})


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.mark.parametrize(("free", "code"), [(90, 0), (20, 3)])
def test_a_disk_with_little_room(patient: Patient, monkeypatch: pytest.MonkeyPatch, free: int, code: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1_000, 1_000 - free, free))
    assert patient.found()[0] == code
    assert list(patient.found()[1]) == ["disk-full"]


@pytest.mark.parametrize(("ahead", "code", "words"), [(1.5, 0, "this host is 1.5 s ahead"), (7200, 3, "7200.0 s")])
def test_clocks_that_differ(
    patient: Patient, monkeypatch: pytest.MonkeyPatch, ahead: float, code: int, words: str
) -> None:
    class Ahead:
        @staticmethod
        def time() -> float:
            return time.time() + ahead * 2  # of the two looks at our clock one is this module's

    monkeypatch.setattr(host_checks, "time", Ahead)
    found = patient.found()
    assert (found[0], list(found[1])) == (code, ["clock-skew"])
    assert words in found[1]["clock-skew"]


def test_redis_alone_is_examined_too(patient: Patient) -> None:
    alone = {"LEGACY_DATABASE_URL": "", "SESSION_GENERATION_PREFIX": patient.prefix}
    code, found = patient.found(**alone)
    assert (code, list(found)) == (7, ["redis-refuses"]), "the generation is in mode mirror"
    assert "wrong mode" in found["redis-refuses"]
    patient.redis("SET", Names(patient.prefix, 0).generation.decode(), "final")
    try:
        assert patient.found(**alone) == (0, {})
        assert list(patient.found(LEGACY_DATABASE_URL="")[1]) == ["settings-wrong"]
    finally:
        patient.redis("SET", Names(patient.prefix, 0).generation.decode(), "mirror")


def test_the_service_of_this_host(
    patient: Patient, make_service: Callable[..., ServiceProcess], tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    flag.write_text("USE_REDIS_SESSIONS=true\nSESSION_REDIS_PERCENT=100\n")
    nobody = f"127.0.0.1:{free_port()}"
    code, found = patient.found(SESSION_LISTEN=nobody)
    assert (code, list(found)) == (3, ["service-down"])

    settings = {**patient.settings, "SESSION_GENERATION_PREFIX": "", "SESSION_FLAG_FILE": str(flag)}
    service = make_service(patient.server, **settings).start()
    here = {"SESSION_LISTEN": f"127.0.0.1:{service.port}", "SESSION_FLAG_FILE": str(flag)}
    limit = time.monotonic() + 15
    while service.get("/readyz").status_code != 200:
        assert time.monotonic() < limit
        time.sleep(0.05)
    assert patient.found(**here) == (0, {})
    flag.write_text("USE_REDIS_SESSIONS=true\nSESSION_REDIS_PERCENT=7\n")
    code, found = patient.found(**here)
    assert (code, list(found)) == (0, ["flag-not-read"])
    flag.write_text("USE_REDIS_SESSIONS=true\nSESSION_REDIS_PERCENT=100\n")
    lost = make_service(patient.server, LEGACY_DATABASE_URL=f"sqlite:///{tmp_path}/no.db").start()
    code, found = patient.found(SESSION_LISTEN=f"127.0.0.1:{lost.port}")
    assert (code, "service-not-ready" in found) == (3, True)
    assert "migrate prepare" in found["service-not-ready"]


def test_a_fleet_in_mode_final_has_no_finding_with_its_legacy_store_and_without(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    operator = Finalizing(tmp_path, redis_server)
    assert operator.finalize("--accept-loss", "--execute").exit_code == 0
    prefix = operator.sql("SELECT prefix FROM session_control")[0][0]
    alone = {**operator.environment, "LEGACY_DATABASE_URL": None, "SESSION_GENERATION_PREFIX": prefix}

    for environment in (operator.environment, alone):
        done = CliRunner().invoke(main, ("doctor", "--json"), env=environment)
        code, found = findings_of(done)
        assert (code, list(found)) == (0, ["redis-no-limit"]), found
        assert "sessions" not in msgspec.json.decode(done.stdout)["looked_at"]


async def examined(migration: Migration, ignored: set[str] = BUSY, **changes: str) -> tuple[int, dict[str, str]]:
    environment = (
        dict.fromkeys(row.name for row in SETTINGS) | settings_of(migration.application, migration.server) | changes
    )
    runner = CliRunner()
    done = await asyncio.to_thread(runner.invoke, main, ("doctor", "--json"), env=environment)
    return findings_of(done, ignored=ignored)


@pytest.mark.alone
async def test_a_healthy_fleet_on_either_database_has_no_finding_and_a_slow_link_is_named(migration: Migration) -> None:
    await migration.open(rows=100)
    await migration.want(100)
    await migration.move()
    await report_live(migration)
    await as_administrator(migration.server, "CONFIG", "SET", "maxmemory", MAXMEMORY)
    try:
        assert await examined(migration) == (0, {})
        async with slow_link(migration.server.port, 0.12) as port:
            code, found = await examined(migration, set(), REDIS_PORT=str(port))
            assert (code, "redis-slow" in found, found.keys() <= BUSY) == (0, True, True)
        if migration.application.postgresql:
            url = migration.application.url
            port = int(url.rpartition(":")[2].partition("/")[0])
            async with slow_link(port, 0.15) as slow:
                code, found = await examined(
                    migration, set(), LEGACY_DATABASE_URL=url.replace(f":{port}/", f":{slow}/")
                )
                assert (code, "legacy-slow" in found, found.keys() <= BUSY) == (0, True, True)
            nobody = url.replace("//session_ops@", "//nobody:hunter2@")
            assert [*(await examined(migration, LEGACY_DATABASE_URL=nobody))[1]] == ["legacy-password"]
            missing = url.rpartition("/")[0] + "/missing"
            code, found = await examined(migration, LEGACY_DATABASE_URL=missing)
            assert (code, found) == (6, {"legacy-refuses": "the legacy store: database missing"})
    finally:
        await as_administrator(migration.server, "CONFIG", "SET", "maxmemory", "0")
