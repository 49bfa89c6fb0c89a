"""A support bundle: what somebody who helps from afar asks for, in one file without secrets.

Nothing of a session's data is ever read into it, ids are cut, and every text goes through `Redaction` on its way in.
"""

from __future__ import annotations

import importlib.metadata
import io
import os
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from session_ops.errors import PreconditionError
from session_ops.settings import shown
from session_ops.settings_table import SETTINGS

if TYPE_CHECKING:
    from session_ops.doctor.examination import Examination
    from session_ops.doctor.redaction import Redaction
    from session_ops.settings import Settings

UNITS: Final = ("session-service", "session-functions", "redis-server", "valkey-server")
"""Not the database: its log may show what a statement carried, and that is sessions."""

LINES: Final = 1_000
"""Of the journal of each unit."""

_PATIENCE: Final = 20.0


def contents(settings: Settings, examination: Examination, report: Any) -> dict[str, str]:
    """The files of the bundle. `report`: the migration's, or why there is none."""
    settings_shown = {
        row.name: {"value": shown(row, settings), "source": settings.sources[row.name]} for row in SETTINGS
    }
    packages = sorted(f"{each.name}=={each.version}" for each in importlib.metadata.distributions())
    return {
        "doctor.json": _json(msgspec.to_builtins(examination)),
        "settings.json": _json(settings_shown),
        "migration.json": _json(msgspec.to_builtins(report)),
        "packages.txt": "\n".join(packages) + "\n",
        "limits.txt": _said("uname", "-a") + _said("df", "-h") + _said("free", "-m") + _said("timedatectl", "show"),
        **{f"journal/{unit}.txt": _journal(unit) for unit in UNITS},
    }


def write(path: Path, files: dict[str, str], redaction: Redaction) -> list[str]:
    """Write the bundle, readable for its owner alone; the names of its files. Raises `PreconditionError`."""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as stream, tarfile.open(fileobj=stream, mode="w:gz") as archive:
            for file, text in sorted(files.items()):
                content = _redacted(file, text, redaction).encode(errors="backslashreplace")
                member = tarfile.TarInfo(f"session-ops-bundle/{file}")
                member.size, member.mode, member.mtime = len(content), 0o600, int(time.time())
                archive.addfile(member, io.BytesIO(content))
        Path(name).replace(path)
    except OSError as error:
        raise PreconditionError(f"--bundle: cannot write {path}: {error.strerror}") from error
    return sorted(files)


def _redacted(file: str, text: str, redaction: Redaction) -> str:
    if not file.endswith(".json"):
        return redaction.text(text)
    return _json(redaction.value(msgspec.json.decode(text)))


def _json(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n"


def _journal(unit: str) -> str:
    return _said("journalctl", "--quiet", "--no-pager", f"--lines={LINES}", f"--unit={unit}", "--output=short-iso")


def _said(*command: str) -> str:
    """What a program of the host says; the reason where it says nothing."""
    try:
        done = subprocess.run(  # noqa: S603 - fixed commands
            command, capture_output=True, check=False, timeout=_PATIENCE, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"$ {' '.join(command)}\n({type(error).__name__})\n"
    text = (done.stdout + done.stderr).decode(errors="backslashreplace")
    return f"$ {' '.join(command)}\n{text}"
