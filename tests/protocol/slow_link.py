"""A link to a server on loopback whose every byte is under way for a while."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from tests.chaos.delay import delayed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def slow_link(target: int, seconds: float) -> AsyncIterator[int]:
    """The port that leads to the port `target`, half of `seconds` on the way there and half on the way back."""
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
        try:
            await asyncio.gather(delayed(reader, far_writer, seconds / 2), delayed(far_reader, writer, seconds / 2))
        except asyncio.CancelledError:
            pass  # asyncio logs a cancelled handler as an error
        finally:
            writer.transport.abort()
            far_writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
