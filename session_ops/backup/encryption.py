"""age, from Debian's package: encrypts to public keys. The private key is never on the hosts that make backups."""

from __future__ import annotations

import hashlib
import subprocess
from typing import TYPE_CHECKING

from session_ops.backup.manifest import File
from session_ops.errors import PreconditionError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def encrypt(plain: Path, to: Path, recipients: Sequence[str]) -> File:
    """Encrypt a file to every recipient; what came of it. Raises `PreconditionError`."""
    named = [word for recipient in recipients for word in ("--recipient", recipient)]
    _age("--encrypt", *named, "--output", str(to), str(plain), what="encrypt")
    return file_of(to)


def decrypt(stored: Path, to: Path, identity: Path) -> File:
    """Decrypt a file with a private key; what came of it. Raises `PreconditionError`."""
    _age("--decrypt", "--identity", str(identity), "--output", str(to), str(stored), what="decrypt")
    return file_of(to)


def _age(*arguments: str, what: str) -> None:
    try:
        done = subprocess.run(["age", *arguments], capture_output=True, text=True, check=False)  # noqa: S603, S607 - no shell
    except OSError as error:
        raise PreconditionError(f"age does not run ({error.strerror}): apt-get install age") from error
    if done.returncode != 0:
        raise PreconditionError(f"age does not {what}: {done.stderr.strip()[:400]}")


def file_of(path: Path) -> File:
    """A file's size and SHA-256."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    return File(path.stat().st_size, digest.hexdigest())
