"""Backups of a real Redis: proved, encrypted, stored, kept for their time, and noticed when they are spoilt."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from session_ops.backup import take as taking
from session_ops.backup.destination import Destination
from session_ops.backup.manifest import Manifest
from session_ops.backup.proof import prove
from session_ops.backup.scratch import SpoiltError
from session_ops.backup.snapshot import take_snapshot
from session_ops.backup.status import Last, Status, read_status
from session_ops.errors import HeldError, PreconditionError, StoreUnavailableError
from tests.integration.backup.conftest import SESSIONS, Rig
from tests.servers import ADMINISTRATOR, ADMINISTRATOR_PASSWORD, PROGRAMS, RedisServer, command_of

if TYPE_CHECKING:
    from pathlib import Path


def manifest(rig: Rig, which: int = -1) -> Manifest:
    return msgspec.json.decode(rig.files(".json")[which].read_bytes(), type=Manifest)


def replication_id(rig: Rig) -> str:
    with rig.backup().connect() as redis:
        return redis.info("replication")["master_replid"]


def snapshots_on(rig: Rig) -> list[Path]:
    """What holds sessions in the clear, beside Redis' append-only file."""
    return [*rig.directory.rglob("dump.rdb"), *rig.directory.rglob("run-*")]


def test_a_backup_says_what_is_in_it_and_leaves_nothing_else_behind(rig: Rig) -> None:
    before = replication_id(rig)
    done = rig.backup().take()

    assert (done.error, done.kept, done.spoilt, done.problems(900, done.ran_at / 1000)) == (None, 1, (), [])
    made = manifest(rig)
    assert done.last is not None
    assert (done.last.name, done.last.sessions, done.last.mode) == (made.name, SESSIONS, "final")
    assert (made.contents.sessions, made.contents.keys) == (SESSIONS, rig.command("DBSIZE"))
    assert [(each.prefix, each.mode) for each in made.contents.generations] == [("1-backup", "final")]
    assert 0 < made.compared <= SESSIONS
    assert read_status(rig.configuration) == done
    assert snapshots_on(rig) == []
    assert replication_id(rig) == before, "the hosts would take it for another Redis"
    assert rig.files(".rdb.age")[0].read_bytes().startswith(b"age-encryption.org/v1")
    assert "session_ops_backup_last_sessions 40\n" in (rig.directory / "backup.prom").read_text()


@pytest.mark.parametrize("program", PROGRAMS)
def test_whoever_has_the_private_key_can_prove_a_backup(tmp_path: Path, program: str) -> None:
    rig = Rig(tmp_path, program)
    try:
        rig.backup().take()
    finally:
        rig.redis.stop()
    place = Destination(str(rig.store))

    proof = prove(place, manifest(rig).name, rig.identity, command_of(program))

    assert (proof.sessions, proof.compared) == (SESSIONS, SESSIONS)
    with pytest.raises(PreconditionError, match="there is no backup"):
        prove(place, "sessions-redis1-20200101T000000Z", rig.identity, command_of(program))
    stranger = rig.directory / "stranger.key"
    stranger.write_text("AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX\n")
    with pytest.raises(PreconditionError, match="age does not decrypt"):
        prove(place, manifest(rig).name, stranger, command_of(program))


def test_a_manifest_that_tells_of_other_sessions_is_noticed(rig: Rig) -> None:
    rig.backup().take()
    path, made = rig.files(".json")[0], manifest(rig)
    hours = [msgspec.structs.replace(hour, digest="0" * 32) for hour in made.contents.hours]
    other = msgspec.structs.replace(made, contents=msgspec.structs.replace(made.contents, hours=tuple(hours)))
    path.write_bytes(msgspec.json.encode(other) + b"\n")

    with pytest.raises(SpoiltError, match="with other data in them"):
        prove(Destination(str(rig.store)), made.name, rig.identity, command_of("redis-7.0"))


@pytest.mark.parametrize("way", ["cut", "changed", "gone", "manifest"])
def test_a_stored_backup_that_is_spoilt_is_noticed(rig: Rig, way: str) -> None:
    rig.backup().take()
    snapshot, name = rig.files(".rdb.age")[0], manifest(rig).name
    content = snapshot.read_bytes()
    says = {
        "cut": f"{name}: {len(content) - 1:,} bytes, not {len(content):,}",
        "changed": f"{name}: its content is not what was stored",
        "gone": f"{name}: its snapshot is missing",
        "manifest": f"{name}: its manifest cannot be read",
    }
    match way:
        case "cut":
            snapshot.write_bytes(content[:-1])
        case "changed":
            snapshot.write_bytes(content[:-9] + bytes(reversed(content[-9:])))
        case "gone":
            snapshot.unlink()
        case _:
            rig.files(".json")[0].write_text("{}")

    found = rig.backup().check()

    assert found.spoilt == (says[way],)
    assert found.problems(900, found.ran_at / 1000) == [f"spoilt: {says[way]}"]
    assert "session_ops_backup_spoilt 1\n" in (rig.directory / "backup.prom").read_text()
    if way != "changed":  # which only reading it to its end shows
        assert read_status(rig.configuration).spoilt == (says[way],)
    if way in {"changed", "cut"}:
        with pytest.raises(SpoiltError):
            prove(Destination(str(rig.store)), name, rig.identity, command_of("redis-7.0"))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda content: content[:-20], "cannot be loaded"),
        (lambda content: content.replace(b"ann", b"bob", 1), "cannot be loaded"),
    ],
)
def test_a_snapshot_that_is_spoilt_on_its_way_is_never_stored(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, spoil: Any, says: str
) -> None:
    def spoilt(redis: Any, to: Path) -> Any:
        made = take_snapshot(redis, to)
        to.write_bytes(spoil(to.read_bytes()))
        return made

    good = rig.backup().take()
    monkeypatch.setattr(taking, "take_snapshot", spoilt)
    with pytest.raises(SpoiltError, match=says):
        rig.backup().take()

    now = read_status(rig.configuration)
    assert says in str(now.error)
    assert now.last == good.last
    assert len(rig.files("")) == 2
    assert snapshots_on(rig) == []
    assert "session_ops_backup_last_run_failed 1\n" in (rig.directory / "backup.prom").read_text()


@pytest.mark.parametrize(
    ("change", "says"),
    [(("DEL", "generation:1-backup:{0}"), "keys, its snapshot has"), (("EXPIRE", "{session}", 7), "not the one that")],
)
def test_a_snapshot_of_something_else_than_was_in_redis_is_noticed(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, change: tuple[Any, ...], says: str
) -> None:
    """As if Redis had written another thing than it has."""

    def other(redis: Any, to: Path) -> Any:
        moment, _ = take_snapshot(redis, to)
        sampled = next(iter(moment.sample))
        redis.call(*(sampled if word == "{session}" else word for word in change))
        return moment, take_snapshot(redis, to)[1]

    monkeypatch.setattr(taking, "take_snapshot", other)
    with pytest.raises(SpoiltError, match=says):
        rig.backup().take()
    assert rig.files("") == []


def test_a_backup_is_exact_while_sessions_change(rig: Rig) -> None:
    over = threading.Event()

    def write() -> None:
        with rig.backup().connect() as redis:
            number = 0
            while not over.is_set():
                number += 1
                redis.many([("SET", f"k{number}", 1), ("HSET", f"session:1-x:{{0}}:{number % 50}", "", number)])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(3):
            assert rig.backup().take().error is None
    finally:
        over.set()
        writer.join()


def test_old_backups_go_and_of_each_day_one_stays(rig: Rig) -> None:
    rig.backup().take()
    made = manifest(rig)
    for at in ("20260101T100000Z", "20260102T100000Z", "20260102T110000Z", "20260103T100000Z"):
        name = f"sessions-redis1-{at}"
        renamed = msgspec.json.encode(msgspec.structs.replace(made, name=name))
        (rig.store / f"{name}.json").write_bytes(renamed + b"\n")
        (rig.store / f"{name}.rdb.age").write_bytes(rig.files(".rdb.age")[-1].read_bytes())
    (rig.store / "sessions-redis1-20260101T120000Z.rdb.age").write_text("cut short")
    (rig.store / "sessions-redis10-20260101T120000Z.rdb.age").write_text("another host's")
    (rig.store / "mine.txt").write_text("not ours")

    done = rig.backup(keep=2, keep_days=3).take()

    left = {path.name.partition(".")[0].removeprefix("sessions-redis1-") for path in rig.files("")}
    fresh = {manifest(rig).name.removeprefix("sessions-redis1-"), made.name.removeprefix("sessions-redis1-")}
    assert left == fresh | {"20260102T110000Z", "20260103T100000Z", "sessions-redis10-20260101T120000Z", "mine"}
    assert (done.kept, done.spoilt) == (len(fresh) + 2, ())


def test_what_is_in_the_way_is_said_and_noted(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PreconditionError, match="directory not found"):
        rig.backup(destination=str(rig.directory / "unmounted")).take()
    assert "directory not found" in str(read_status(rig.configuration).error)
    with pytest.raises(PreconditionError, match=r"age does not encrypt: .*recipient"):
        rig.backup(recipients=("age1nonsense",)).take()
    with pytest.raises(StoreUnavailableError, match=r"none\.sock: No such file"):
        rig.backup(socket=str(rig.directory / "none.sock")).take()
    with pytest.raises(StoreUnavailableError, match="WRONGPASS"):
        rig.backup(user="nobody").take()
    (rig.directory / "meminfo").write_text("MemTotal: 100 kB\nMemAvailable: 1 kB\n")
    monkeypatch.setattr(taking, "MEMORY", rig.directory / "meminfo")
    with pytest.raises(PreconditionError, match="0 MiB of memory are available"):
        rig.backup().take()
    assert rig.files("") == []
    assert snapshots_on(rig) == []


def test_two_at_once_are_one(rig: Rig) -> None:
    with rig.backup()._alone(), pytest.raises(HeldError, match="another backup is under way"):
        rig.backup().take()


def test_where_there_are_replicas_they_are_backed_up_and_not_the_primary(rig: Rig, tmp_path: Path) -> None:
    replica = RedisServer(
        tmp_path / "replica",
        unixsocket=str(tmp_path / "p.sock"),
        masteruser=ADMINISTRATOR,
        masterauth=ADMINISTRATOR_PASSWORD,
    ).start()
    try:
        of_replica = rig.backup(socket=str(tmp_path / "p.sock"), directory=str(tmp_path / "other"))
        with of_replica.connect() as redis:
            redis.call("REPLICAOF", "127.0.0.1", rig.redis.port)
            while redis.info("replication")["master_link_status"] != "up":
                pass
        # The primary counts it once it has heard of it, which is a moment later
        with rig.backup().connect() as redis:
            while "state=online" not in redis.info("replication").get("slave0", ""):
                pass
        passed = rig.backup().take()
        assert passed.passed == "a primary with 1 replicas: they are backed up"
        assert passed.problems(900, passed.ran_at / 1000) == []
        assert rig.files("") == []
        done = of_replica.take()
        assert done.last is not None
        assert done.last.sessions == SESSIONS
        rig.redis.stop()
        with of_replica.connect() as redis:
            while redis.info("replication")["master_link_status"] == "up":
                pass
        assert of_replica.take().passed == "a replica that is cut off from its primary"
    finally:
        replica.stop()


def test_how_old_is_too_old_and_none_is_a_problem() -> None:
    assert Status().problems(900, 0.0) == ["there is no backup yet: systemctl start session-backup"]
    assert Status(passed="a replica").problems(900, 0.0) == []
    assert Status(error="x").problems(900, 0.0)[0] == "the last run made no backup: x"
    last = Last(name="n", at=0, sessions=1, mode="final", generations=(), bytes=1, seconds=1.0)
    assert Status(last=last).problems(900, 2_700.0) == []
    assert "45 min old" in Status(last=last).problems(900, 2_701.0)[0]
