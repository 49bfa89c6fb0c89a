"""The first redis.conf: written once; from then on Redis owns and rewrites it."""

from __future__ import annotations

import contextlib
import re
import socket
from typing import TYPE_CHECKING

from ansible.module_utils.redis_client import Client, RedisError
from ansible.module_utils.redis_host_files import Ownership, read, write

if TYPE_CHECKING:
    import pathlib

# An RDB file of an empty Redis has under 200 bytes.
_EMPTY = 512


def seeded(current: str | None, mark: str) -> bool:
    """Say whether the file carries our mark in its first line; CONFIG REWRITE keeps comments."""
    return current is not None and current.split("\n", 1)[0] == mark


def data_files(directory: pathlib.Path) -> list[str]:
    """Return the files in the data directory that hold keys."""
    files = [*directory.glob("*.rdb"), *directory.glob("*.aof"), *directory.glob("*/*.aof")]
    return sorted(str(file) for file in files if file.stat().st_size > _EMPTY)


def live_keys(current: str | None) -> list[str]:
    """Say what the Redis that runs with the present file has in memory: nothing, keys, or a password we do not know."""
    ports = re.findall(r"^port\s+(\d+)", current or "", re.MULTILINE)
    try:
        connection = socket.create_connection(("127.0.0.1", int(ports[-1]) if ports else 6379), timeout=5)
    except OSError:
        return []
    client = Client(connection)
    with contextlib.closing(client):
        try:
            keys = client.call("DBSIZE")
        except (OSError, RedisError) as error:
            return [f"port {connection.getpeername()[1]} answers: {error}"]
    return [f"{keys} keys in memory"] if keys else []


def refusal(path: pathlib.Path, content: str, data_directory: pathlib.Path) -> str:
    """Say why this host's Redis cannot be taken over, "" when it can, or is ours already.

    A Redis with data that this configuration would not load (one with an append-only file ignores an RDB file,
    measured 0 keys) would start empty.
    """
    current = read(path)
    if seeded(current, content.split("\n", 1)[0]):
        return ""
    found = [*data_files(data_directory), *live_keys(current)]
    if not found:
        return ""
    return (
        f"this host already has a Redis with data ({', '.join(found)}), and {path} of this role would not load "
        "it. Nothing was changed. Move the data away, and bring it back as a backup once the role has set Redis up."
    )


def seed(path: pathlib.Path, content: str, owner: str, *, check: bool) -> list[dict[str, str]]:
    """Write the file unless its first line says that it was seeded before; returns the difference, none when it was."""
    if seeded(read(path), content.split("\n", 1)[0]):
        return []
    if not check:
        write(path, content, Ownership(owner, owner, "0640"))
    headers = {"before_header": str(path), "after_header": f"{path} (first configuration)"}
    return [{**headers, "before": "", "after": content}]
