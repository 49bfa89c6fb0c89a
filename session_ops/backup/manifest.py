"""What is written down beside a backup: whoever finds it knows what it is and can prove it. No ids, no secrets."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from session_ops.backup.contents import Contents  # noqa: TC001 - msgspec asks for it

FORMAT: Final = 1
SNAPSHOT: Final = ".rdb.age"
MANIFEST: Final = ".json"


class File(msgspec.Struct, frozen=True):
    """A file as it must be."""

    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """`at`: when the snapshot began (ms, Redis' clock). `plain` is Redis' file, `stored` what age made of it.

    `compared`: how many sessions were compared one by one with the Redis they come from.
    """

    format: Literal[1]
    name: str
    host: str
    at: int
    redis_version: str
    replication_id: str
    offset: int
    release: str
    recipients: tuple[str, ...]
    plain: File
    stored: File
    contents: Contents
    compared: int

    @property
    def mode(self) -> str:
        """The modes of its generations: `mirror`, `hold`, `final`."""
        return " ".join(sorted({each.mode for each in self.contents.generations})) or "none"
