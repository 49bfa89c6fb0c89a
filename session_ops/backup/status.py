"""How backups stand: the result of the last run, as a file for `session-ops backup status` and one for the exporter."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from session_ops.errors import PreconditionError

if TYPE_CHECKING:
    from session_ops.backup.configuration import Configuration

OVERDUE: Final = 3
"""After so many intervals without a good backup the last one is too old."""


class Last(msgspec.Struct, frozen=True, kw_only=True):
    """The last good backup: what its manifest says in short, and how long it took (s)."""

    name: str
    at: int
    sessions: int
    mode: str
    generations: tuple[str, ...]
    bytes: int
    seconds: float


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """`ran_at` in ms, 0: never. `error`: why the last run made no backup; `passed`: why it was not this host's turn.

    `kept`: how many there are; `spoilt`: what is wrong with some of them.
    """

    ran_at: int = 0
    error: str | None = None
    passed: str | None = None
    last: Last | None = None
    kept: int = 0
    spoilt: tuple[str, ...] = ()

    def problems(self, interval: int, now: float) -> list[str]:
        """What a person has to do something about, at `now` (s)."""
        found = [f"the last run made no backup: {self.error}"] if self.error else []
        age = now - (self.last.at / 1000 if self.last else 0)
        if self.last is None and not self.passed:
            found.append("there is no backup yet: systemctl start session-backup")
        elif self.last and not self.passed and age > OVERDUE * interval:
            found.append(f"the last backup is {age / 60:,.0f} min old: systemctl status session-backup.timer")
        return found + [f"spoilt: {each}" for each in self.spoilt]


def read_status(configuration: Configuration) -> Status:
    """The last run's result. Raises `PreconditionError` for a file that is none."""
    path = _path(configuration)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Status)
    except FileNotFoundError:
        return Status()
    except (OSError, msgspec.DecodeError) as error:
        raise PreconditionError(f"{path}: {error}; the next backup writes it anew") from error


def write_status(configuration: Configuration, status: Status) -> None:
    """Keep a run's result, and tell the exporter of it."""
    _write(_path(configuration), msgspec.json.format(msgspec.json.encode(status), indent=2))
    if configuration.metrics:
        _write(Path(configuration.metrics), _metrics(status).encode())


def _path(configuration: Configuration) -> Path:
    return Path(configuration.directory) / "status.json"


def _write(path: Path, content: bytes) -> None:
    new = path.with_suffix(".new")
    with new.open("wb") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def _metrics(status: Status) -> str:
    """In the text format of Prometheus; the age of the last backup is time() minus its timestamp."""
    last = status.last
    values = {
        "last_run_timestamp_seconds": ("when the last run ended", status.ran_at / 1000),
        "last_run_failed": ("1 where it was to make a backup and made none", int(bool(status.error))),
        "last_timestamp_seconds": ("when the snapshot of the last good backup began", last.at / 1000 if last else 0),
        "last_sessions": ("sessions in it", last.sessions if last else 0),
        "last_bytes": ("its size as it is stored", last.bytes if last else 0),
        "last_seconds": ("how long it took", last.seconds if last else 0),
        "kept": ("backups at the destination", status.kept),
        "spoilt": ("those that are not what was stored", len(status.spoilt)),
    }
    return "".join(
        f"# HELP session_ops_backup_{name} {text}\n# TYPE session_ops_backup_{name} gauge\n"
        f"session_ops_backup_{name} {value}\n"
        for name, (text, value) in values.items()
    )


def now_ms() -> int:
    """This host's clock."""
    return time.time_ns() // 1_000_000
