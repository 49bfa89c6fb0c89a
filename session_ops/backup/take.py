"""One backup: snapshot, load it to prove it, encrypt it, store it, read it back, and let old ones go.

A run leaves no snapshot behind on this host, whatever happens; a backup without a manifest is none.
"""

from __future__ import annotations

import fcntl
import shutil
import socket
import tempfile
import time
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from session_ops.backup.collection import kept, name_of, remains, spoilt, superfluous
from session_ops.backup.contents import read_contents
from session_ops.backup.destination import Destination
from session_ops.backup.encryption import encrypt, file_of
from session_ops.backup.local import LocalRedis
from session_ops.backup.manifest import FORMAT, MANIFEST, SNAPSHOT, File, Manifest
from session_ops.backup.scratch import SpoiltError, loaded
from session_ops.backup.snapshot import check_against, take_snapshot, whose_turn
from session_ops.backup.status import Last, Status, now_ms, read_status, write_status
from session_ops.errors import HeldError, PreconditionError, SessionOpsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from session_ops.backup.configuration import Configuration

    Step = Callable[[str], None]

MEMORY: Final = Path("/proc/meminfo")
ROOM: Final = 1.3
"""Of Redis' own memory: what must be available for the load that proves a snapshot."""


def _silent(step: str) -> None:
    del step


class Backup:
    """The backups of the Redis on this host. `host`: the name they carry."""

    def __init__(self, configuration: Configuration, *, host: str = "", step: Step = _silent) -> None:
        """`step` is told of each step as it begins."""
        self._configuration = configuration
        self._host = host or socket.gethostname()
        self._step = step
        self.destination = Destination(configuration.destination, configuration.rclone)

    def connect(self) -> LocalRedis:
        """Redis as its administrator. Raises `StoreUnavailableError`, `PreconditionError`."""
        password = Path(self._configuration.password_file)
        try:
            secret = password.read_text().strip()
        except OSError as error:
            raise PreconditionError(f"{password}: {error.strerror}; run this as root or by its unit") from error
        return LocalRedis(self._configuration.socket, user=self._configuration.user, password=secret)

    def take(self) -> Status:
        """Make a backup, and write down how it went; the result. Raises `HeldError` where another run is at it, and
        what a backup failed for, once that is written down.
        """
        with self._alone():
            before = read_status(self._configuration)
            try:
                status = self._taken(before)
            except (SessionOpsError, OSError) as error:
                failed = msgspec.structs.replace(before, ran_at=now_ms(), error=str(error), passed=None)
                write_status(self._configuration, failed)
                raise
            write_status(self._configuration, status)
            return status

    def check(self) -> Status:
        """Read every backup at the destination to its end, and write down what is spoilt."""
        with self._alone():
            count, wrong = self._looked_at(whole=True)
            status = msgspec.structs.replace(read_status(self._configuration), kept=count, spoilt=wrong)
            write_status(self._configuration, status)
            return status

    def _taken(self, before: Status) -> Status:
        began = time.monotonic()
        with self.connect() as redis:
            passed = whose_turn(redis)
            if passed:
                return msgspec.structs.replace(before, ran_at=now_ms(), error=None, passed=passed)
            self._step("looking at the destination")
            self.destination.sizes()
            _make_room(redis)
            with self._files() as files:
                manifest = self._stored(redis, files)
        last = Last(
            name=manifest.name,
            at=manifest.at,
            sessions=manifest.contents.sessions,
            mode=manifest.mode,
            generations=tuple(each.prefix for each in manifest.contents.generations),
            bytes=manifest.stored.bytes,
            seconds=round(time.monotonic() - began, 1),
        )
        self._let_go()
        count, wrong = self._looked_at(whole=False)
        return Status(ran_at=now_ms(), last=last, kept=count, spoilt=wrong)

    def _stored(self, redis: LocalRedis, files: Path) -> Manifest:
        """Snapshot, proof, encryption and storing."""
        self._step("Redis saves a snapshot")
        snapshot = files / "dump.rdb"
        moment, digest = take_snapshot(redis, snapshot)
        plain = File(snapshot.stat().st_size, digest)
        self._step("loading it")
        with loaded(snapshot, self._configuration.program.split()) as scratch:
            compared = check_against(moment, scratch)
            contents = read_contents(scratch)
        if file_of(snapshot) != plain:
            raise SpoiltError("the snapshot changed on this host while it was loaded")
        self._step("encrypting it")
        name = name_of(self._host, moment.at)
        encrypted = files / (name + SNAPSHOT)
        stored = encrypt(snapshot, encrypted, self._configuration.recipients)
        snapshot.unlink()
        manifest = Manifest(
            format=FORMAT,
            name=name,
            host=self._host,
            at=moment.at,
            redis_version=moment.version,
            replication_id=moment.replication_id,
            offset=moment.offset,
            release=version("session-ops"),
            recipients=self._configuration.recipients,
            plain=plain,
            stored=stored,
            contents=contents,
            compared=compared,
        )
        self._step("storing it")
        self.destination.put(encrypted, encrypted.name)
        if self.destination.digest(encrypted.name) != stored.sha256:
            raise SpoiltError(f"{self._configuration.destination}: {encrypted.name} reads back as something else")
        written = files / (name + MANIFEST)
        written.write_bytes(msgspec.json.encode(manifest) + b"\n")
        self.destination.put(written, written.name)
        return manifest

    def _let_go(self) -> None:
        """Remove what has had its time, and what runs that were cut short have left."""
        self._step("letting old ones go")
        settings, sizes = self._configuration, self.destination.sizes()
        there = kept(sizes, self._host)
        for name in superfluous(there, keep=settings.keep, keep_days=settings.keep_days):
            # The manifest first: without it what is left is no backup
            for file in (name + MANIFEST, name + SNAPSHOT):
                if file in sizes:
                    self.destination.remove(file)
        for file in remains(sizes, self._host):
            self.destination.remove(file)

    def _looked_at(self, *, whole: bool) -> tuple[int, tuple[str, ...]]:
        """How many backups are at the destination, and what is wrong with some of them."""
        count, wrong = spoilt(self.destination, self._host, whole=whole)
        return count, tuple(wrong)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock; raises `HeldError`."""
        directory = Path(self._configuration.directory)
        try:
            directory.mkdir(mode=0o755, parents=True, exist_ok=True)
            with (directory / "lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield
        except BlockingIOError:
            raise HeldError("another backup is under way on this host: systemctl status session-backup") from None

    @contextmanager
    def _files(self) -> Iterator[Path]:
        """A closed directory for passing files; what a run that was killed has left goes first."""
        directory = Path(self._configuration.directory)
        for left in directory.glob("run-*"):
            shutil.rmtree(left)
        with tempfile.TemporaryDirectory(prefix="run-", dir=directory) as made:
            yield Path(made)


def _make_room(redis: LocalRedis) -> None:
    """Raise `PreconditionError` where the load that proves a snapshot would take memory that Redis may need."""
    used = int(redis.info("memory")["used_memory"])
    lines = dict(line.split(":", 1) for line in MEMORY.read_text().splitlines())
    available = int(lines["MemAvailable"].split()[0]) * 1024
    if available < ROOM * used:
        raise PreconditionError(
            f"{available >> 20} MiB of memory are available, loading a snapshot takes {int(ROOM * used) >> 20}: "
            "give the host more memory"
        )
