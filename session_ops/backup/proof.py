"""A stored backup proved again by whoever has the private key: decrypted, loaded, and compared with its manifest."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from session_ops.backup.collection import manifests
from session_ops.backup.contents import HOUR, NEVER, differences, read_contents
from session_ops.backup.encryption import decrypt, file_of
from session_ops.backup.manifest import SNAPSHOT
from session_ops.backup.scratch import SpoiltError, loaded
from session_ops.backup.status import now_ms
from session_ops.errors import PreconditionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from session_ops.backup.destination import Destination
    from session_ops.backup.manifest import Manifest


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """What was proved: of `sessions` in the backup `compared` have not come near their end since."""

    manifest: Manifest
    sessions: int
    compared: int


def prove(destination: Destination, name: str, identity: Path, program: Sequence[str]) -> Proof:
    """Prove a backup. Raises `SpoiltError` where it is not what its manifest says, `PreconditionError`."""
    manifest = manifests(destination, name).get(name)
    if manifest is None:
        raise PreconditionError(f"there is no backup {name} that has a manifest: `rclone ls` shows what there is")
    with tempfile.TemporaryDirectory(prefix="session-backup-") as made:
        stored, plain = Path(made) / "stored", Path(made) / "dump.rdb"
        destination.get(name + SNAPSHOT, stored)
        if file_of(stored) != manifest.stored:
            raise SpoiltError(f"{name}: its content is not what was stored")
        if decrypt(stored, plain, identity) != manifest.plain:
            raise SpoiltError(f"{name}: it decrypts to something else than was encrypted")
        stored.unlink()
        with loaded(plain, program) as scratch:
            found = read_contents(scratch)
    # An hour that ends while this looks is no difference
    now = now_ms() + HOUR
    if wrong := differences(manifest.contents, found, now):
        raise SpoiltError(*(f"{name}: {each}" for each in wrong))
    of = [hour for hour in manifest.contents.hours if hour.begins == NEVER or hour.begins > now]
    return Proof(manifest=manifest, sessions=manifest.contents.sessions, compared=sum(hour.sessions for hour in of))
