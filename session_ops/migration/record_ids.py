"""The ids that Redis has filed, in the order in which they were created: page by page, or some at random.

Every active session stands in a bucket of the index of all (functions.lua). The service's user may read it, and may not
SCAN. Entries move on to later buckets only, so that whoever walks from the oldest to the newest meets each of them.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, Final

import msgspec

from session_ops.stores.layout import Names

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from session_ops.stores.connection import Connection

_random = random.SystemRandom()
_BACK: Final = 200
"""Entries that a walk keeps in sight: where the last one has gone meanwhile, it goes on behind the one before."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """How far a walk is: behind `seen` (the last ids, newest last) of a bucket; "": before the first one."""

    partition: int = 0
    bucket: str = ""
    seen: tuple[str, ...] = ()


class RecordIds:
    """The index of all sessions of generation `prefix`. Raises `StoreUnavailableError`."""

    def __init__(self, connection: Connection, prefix: str, partitions: int) -> None:
        self._call = connection.call
        self._indexes = [
            Names(prefix, partition).generation.replace(b"generation:", b"sessions:", 1) + b":created"
            for partition in range(partitions)
        ]

    async def walk(self, start: Place, most: int) -> AsyncIterator[tuple[list[str], Place]]:
        """All ids behind `start`, at least `most` a page but for the last one, each with the place to go on from."""
        place, page = start, list[str]()
        while place.partition < len(self._indexes):
            index = self._indexes[place.partition]
            ids = await self._bucket(index, place, most) if place.bucket else []
            page += ids
            if len(page) >= most:
                place = msgspec.structs.replace(place, seen=tuple(ids[-_BACK:]))
                yield page, place
                page = []
            elif ids:
                place = msgspec.structs.replace(place, seen=tuple(ids[-_BACK:]))
            else:
                place = await self._next(index, place)
        yield page, place

    async def sample(self, most: int) -> list[str]:
        """Up to `most` ids at random."""
        ids: list[str] = []
        sizes = await asyncio.gather(*(self._call("ZCARD", index) for index in self._indexes))
        buckets = [(index, rank) for index, size in zip(self._indexes, sizes, strict=True) for rank in range(size)]
        chosen = _random.sample(buckets, min(len(buckets), most))
        each = -(-most // max(1, len(chosen)))
        for index, rank in chosen:
            for start in await self._call("ZRANGE", index, rank, rank):
                bucket = index + b":" + start
                size = await self._call("ZCARD", bucket)
                ranks = _random.sample(range(size), min(size, each))
                found = await asyncio.gather(*(self._call("ZRANGE", bucket, rank, rank) for rank in ranks))
                ids += [one[0].decode() for one in found if one]
        return ids[:most]

    async def _bucket(self, index: bytes, place: Place, most: int) -> list[str]:
        """The next ids of a bucket; [] at its end."""
        bucket = index + b":" + place.bucket.encode()
        rank = 0
        if place.seen:
            *earlier, last = place.seen
            ranks = [await self._call("ZRANK", bucket, last)]
            if ranks[0] is None:
                ranks = await asyncio.gather(*(self._call("ZRANK", bucket, each) for each in reversed(earlier)))
            rank = next((at + 1 for at in ranks if at is not None), 0)
            if rank == 0 and not await self._call("EXISTS", bucket):
                return []
        ids: list[Any] = await self._call("ZRANGE", bucket, rank, rank + most - 1)
        return [each.decode() for each in ids]

    async def _next(self, index: bytes, place: Place) -> Place:
        low = f"({place.bucket}" if place.bucket else "-inf"
        found = await self._call("ZRANGE", index, low, "+inf", "BYSCORE", "LIMIT", 0, 1)
        if found:
            return Place(partition=place.partition, bucket=found[0].decode())
        return Place(partition=place.partition + 1)
