"""Calls of the functions that serve no single session: on one partition, or on all of them in one write."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from session_ops.errors import StoreUnavailableError
from session_ops.stores.library import LIBRARY
from session_ops.stores.state import NO_PREFIX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from session_ops.stores.connection import Connection
    from session_ops.stores.layout import Names
    from session_ops.stores.replies import Argument


class Functions:
    """The functions of the library on the partitions of one generation; `opened` False: there is none yet."""

    def __init__(self, connection: Connection, names: Sequence[Names], pin: bytes, *, opened: bool) -> None:
        """`pin` as every function takes it (functions.lua)."""
        self._connection = connection
        self._pin = pin
        self._names = names
        self._opened = opened

    @property
    def partitions(self) -> Sequence[Names]:
        """The names in every partition; raises `StoreUnavailableError` without a generation."""
        if not self._opened:
            raise StoreUnavailableError("redis", NO_PREFIX)
        return self._names

    async def read(self, names: Names, function: str, *arguments: Argument) -> Any:
        """Call a function that only reads, in one partition."""
        return await self._connection.call(
            "FCALL_RO", f"{LIBRARY}_{function}", 1, names.generation, *arguments, self._pin
        )

    async def read_everywhere(self, function: str, *arguments: Argument) -> list[Any]:
        """Call a function that only reads, in all partitions at once."""
        return await asyncio.gather(*[self.read(names, function, *arguments) for names in self.partitions])

    async def change(self, names: Names, function: str, *arguments: Argument, keys: Sequence[bytes] = ()) -> Any:
        """Call a function that writes, in one partition."""
        sent = (*keys, *arguments, self._pin)
        command: tuple[Argument, ...] = (f"{LIBRARY}_{function}", 1 + len(keys), names.generation, *sent)
        return await self._connection.call("FCALL", *command, change=True)

    async def change_mode(self, before: str, after: str) -> list[Any]:
        """The generation key of every partition goes from one mode to another; of each the mode that it had."""
        return await asyncio.gather(*[self.change(names, "mode", before, after) for names in self.partitions])

    async def open(self, mode: str) -> list[Any]:
        """OPEN the generation in every partition, in one write: of each the pin (mode mirror), or 1 where it was new.

        One call for each, since no call leaves its slot. Redis takes them in order, so that each knows how many keys
        the ones before it have left, also where another host opens the same generation or an earlier try was cut off.
        """
        return await asyncio.gather(
            *[self.change(names, "open", mode, before) for before, names in enumerate(self.partitions)]
        )
