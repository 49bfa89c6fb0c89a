"""What a host's backups are made with: one JSON file, which the timer and the operator both read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from session_ops.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT: Final = "/etc/session-backup/backup.json"

Positive = Annotated[int, msgspec.Meta(ge=1)]


class Configuration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`socket`, `user`, `password_file`: how to reach the local Redis as its administrator. `program`: the server that
    loads a backup to prove it. `recipients`: age's public keys. `destination`: where backups are kept, as rclone names
    it; `rclone`: its configuration file. `directory`: passing files and the last run's result. `interval` in seconds:
    how often a backup is due.

    The newest `keep` backups are kept, and of each of the newest `keep_days` days the last one.
    """

    socket: str
    user: str
    password_file: str
    program: str
    recipients: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    destination: Annotated[str, msgspec.Meta(min_length=1)]
    rclone: str
    directory: str
    metrics: str
    interval: Positive
    keep: Positive
    keep_days: Annotated[int, msgspec.Meta(ge=0)]


def read_configuration(path: Path) -> Configuration:
    """Read the file. Raises `SettingsError`, which names the file and what is wrong in it."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Configuration)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}; playbooks/backup.yml writes it") from error
    except msgspec.DecodeError as error:
        raise SettingsError(f"{path}: {error}; run playbooks/backup.yml again") from error
    for recipient in found.recipients:
        if not recipient.startswith("age1"):
            raise SettingsError(f"{path}: recipients: {recipient[:12]!r} is no public key of age (age1...)")
    return found
