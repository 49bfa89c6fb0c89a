"""Sessions that have ended: taken out of the indexes, given out until the agent manager has heard, then forgotten."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from session_ops.limits import check_id
from session_ops.stores.layout import pack_end, partition_of, unpack_end
from session_ops.stores.replies import understood

if TYPE_CHECKING:
    from collections.abc import Sequence

    from session_ops.records import Ended
    from session_ops.stores.functions import Functions


class Ends:
    """The outbox of one generation, and who may work on it."""

    def __init__(self, functions: Functions, partitions: int, margin: int) -> None:
        """`margin` in ms, as the functions that file sessions take it."""
        self._functions = functions
        self._margin = margin
        self._count = partitions
        self._next = 0

    async def clean(self, limit: int) -> list[Ended]:
        """Take up to `limit` ends, from partition after partition.

        The next call goes on where this one stopped, so that ends nobody confirms hold up no other partition.
        """
        partitions = self._functions.partitions
        ended: list[Ended] = []
        for _ in range(self._count):
            names = partitions[self._next]
            self._next = (self._next + 1) % self._count
            more, given = True, list[bytes]()
            # A call looks ahead for so long only. One that has given ends is not repeated: it would give them again
            while more and not given:
                answer = await self._functions.change(names, "clean", self._margin, limit - len(ended))
                with understood(change=True):
                    _, _, more, *given = answer
                    ended.extend(map(unpack_end, given))
            if len(ended) >= limit:
                break
        return ended

    async def told(self, ended: Sequence[Ended]) -> None:
        """Forget ends that the agent manager has heard of."""
        partitions = self._functions.partitions
        members: dict[int, list[bytes]] = {}
        for end in ended:
            members.setdefault(partition_of(end.id, self._count), []).append(pack_end(end))
        await asyncio.gather(*[self._functions.change(partitions[at], "told", *told) for at, told in members.items()])

    async def lead(self, task: str, holder: str, seconds: float) -> bool:
        """Take or keep the lead of a task."""
        check_id(task)
        names = self._functions.partitions[0]
        key = names.control + b"lead:" + task.encode()
        answer = await self._functions.change(names, "lead", holder, max(1, int(seconds * 1000)), keys=[key])
        with understood(change=True):
            return bool(answer[2])
