"""Where backups are kept: a directory, one on another host over SSH, or an S3-compatible store, all through rclone."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Final

import msgspec

from session_ops.errors import PreconditionError

if TYPE_CHECKING:
    from pathlib import Path

LIMIT: Final = 3_600.0
"""Seconds for one file."""
_MANY: Final = ("--retries", "3", "--contimeout", "10s", "--timeout", "60s", "--low-level-retries", "3")


class _Entry(msgspec.Struct, frozen=True):
    name: str = msgspec.field(name="Name")
    size: int = msgspec.field(name="Size")


class Destination:
    """`place` as rclone names it (`/mnt/backups`, `store:path`), `configuration` is rclone's file.

    Every call raises `PreconditionError` with rclone's own words where the place cannot be reached.
    """

    def __init__(self, place: str, configuration: str = "") -> None:
        self._place = place.rstrip("/")
        self._command = ("rclone", f"--config={configuration}", *_MANY)

    def sizes(self) -> dict[str, int]:
        """Every file there and its bytes. The place must exist: a file system that is not mounted is no place."""
        found = self._run("lsjson", "--files-only", self._place)
        return {entry.name: entry.size for entry in msgspec.json.decode(found, type=list[_Entry])}

    def put(self, path: Path, name: str) -> None:
        """Store a file. One that was cut short may have its name, so a backup is one only with its manifest."""
        self._run("copyto", "--no-traverse", str(path), self._of(name))

    def get(self, name: str, path: Path) -> None:
        """Fetch a file."""
        self._run("copyto", "--no-traverse", self._of(name), str(path))

    def lines(self, pattern: str) -> list[bytes]:
        """The lines of all small files whose names match, a `*` for anything."""
        return self._run("cat", "--include", pattern, self._place).splitlines()

    def digest(self, name: str) -> str:
        """Read a file back to its end; its SHA-256."""
        return self._run("hashsum", "sha256", "--download", self._of(name)).split(maxsplit=1)[0].decode()

    def remove(self, name: str) -> None:
        """Remove a file."""
        self._run("deletefile", self._of(name))

    def _of(self, name: str) -> str:
        return f"{self._place}{'' if self._place.endswith(':') else '/'}{name}"

    def _run(self, *arguments: str) -> bytes:
        command = [*self._command, *arguments]
        try:
            done = subprocess.run(command, capture_output=True, timeout=LIMIT, check=False)  # noqa: S603 - no shell
        except OSError as error:
            raise PreconditionError(f"rclone does not run ({error.strerror}): apt-get install rclone") from error
        except subprocess.TimeoutExpired:
            raise PreconditionError(f"{self._place}: no end of `rclone {arguments[0]}` within an hour") from None
        if done.returncode != 0:
            last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            said = " ".join(last)[:400] or f"status {done.returncode}"
            raise PreconditionError(f"{self._place}: rclone {arguments[0]} says: {said}")
        return done.stdout
