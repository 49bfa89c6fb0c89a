"""What the service's Redis user may do: exactly what the functions and the reads need. Tests try everything else."""

from __future__ import annotations

from typing import Final

# Functions run with the caller's rights, so that every command inside them stands here beside FCALL.
_KEYS: Final = ("~session:*", "~sessions:*", "~generation:*", "~control:*")
_COMMANDS: Final = (
    # functions, the guards inside them, and what /readyz asks
    "fcall",
    "fcall_ro",
    "get",
    "info",
    "time",
    "dbsize",
    # sessions
    "hget",
    "hmget",
    "hgetall",
    "hset",
    "hdel",
    "hincrby",
    "del",
    "exists",
    "pexpireat",
    "pexpiretime",
    # indexes
    "zadd",
    "zcard",
    "zcount",
    "zrange",
    "zrank",
    "zrem",
    "zscore",
    # the generation key and who leads cleanup
    "set",
    # the connection
    "client|setname",
    "select",
    "multi",
    "exec",
    "wait",
)

# Nobody can be a user that is off. But Redis (seen: 7.0.15) loads its append-only file with this user's rights, and
# drops every transaction that they do not allow, without a word: with "-@all" a restart loses every change of several
# keys, which is what our functions make.
DEFAULT_ACL: Final = "off resetpass ~* &* +@all"
"""The rules of the user `default`."""

SERVICE_ACL: Final = " ".join([*_KEYS, "resetchannels", "-@all", *(f"+{command}" for command in _COMMANDS)])
"""The rules of the service's user as `ACL SETUSER` takes them."""
