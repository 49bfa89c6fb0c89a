"""How far a validation is, in a file that is there whole or not at all: kill -9 costs two seconds of it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from session_ops.errors import PreconditionError
from session_ops.migration.comparison import Mismatch  # noqa: TC001 - what is read from the file is one
from session_ops.migration.digests import Digests
from session_ops.migration.record_ids import Place


class Checkpoint(msgspec.Struct, kw_only=True):
    """What was asked (`key`), what is done, and what was found. Ids and fingerprints, never a session's data."""

    key: str
    after: int
    step: str = ""
    row: str = ""
    place: Place = Place()
    rows: int = 0
    records: int = 0
    in_redis: int = 0
    in_legacy: int = 0
    lag: int = 0
    busy: int = 0
    mismatches: list[Mismatch] = []
    ours: Digests | None = None
    theirs: Digests | None = None
    digests: tuple[str, str] | None = None

    @classmethod
    def load(cls, path: Path | None, key: str, after: int) -> tuple[Checkpoint, bool]:
        """What an interrupted validation of the same kind has left in the file; a new one where there is none, or
        where the generation has changed since. And whether it goes on.

        Raises `PreconditionError` where the file is something else.
        """
        if path is None or not path.exists():
            return cls(key=key, after=after), False
        try:
            found = msgspec.json.decode(path.read_bytes(), type=cls, dec_hook=_digests)
        except (OSError, msgspec.MsgspecError, ValueError) as error:
            raise PreconditionError(f"{path}: not of a validation; name another file, or remove it") from error
        return (found, True) if found.key == key else (cls(key=key, after=after), False)

    def save(self, path: Path) -> None:
        """Put it in the place of what was there. Raises `PreconditionError`."""
        content = msgspec.json.encode(self, enc_hook=lambda digests: digests.sums)
        try:
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(handle)
            Path(name).replace(path)
        except OSError as error:
            raise PreconditionError(f"{path}: cannot be written: {error.strerror}") from error


def _digests(wanted: type, sums: Any) -> Digests:
    if wanted is not Digests:
        raise NotImplementedError
    return Digests(sums)
