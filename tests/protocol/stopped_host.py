"""A host that stops itself (SIGSTOP) in the middle of one operation: `python -m tests.protocol.stopped_host ...`.

Arguments: Redis' address, the database's URL, the lease (seconds), the operation (`update` or `get`). It stops between
Redis' answer and what follows it (before its update there is one whose mirror never came), and prints what its caller
is told once it is continued.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

from session_ops.errors import StoreUnavailableError
from tests.owned import Host


def stops(step: Any) -> Any:
    """The step, and then nothing until somebody continues the process."""

    async def stopped(*arguments: Any) -> Any:
        answer = await step(*arguments)
        os.kill(os.getpid(), signal.SIGSTOP)
        return answer

    return stopped


async def main(address: str, url: str, lease: str, operation: str) -> None:
    """Run the operation on the session `s`."""
    host = Host(7, address, url, lease=float(lease), redis_deadline=2.0)
    await host.store.steps.get("s")
    redis: Any = host.store.generations.current
    if operation == "update":
        await redis.merge("s", {"k": "never mirrored"}, (), None)
    redis.read, redis.merge = stops(redis.read), stops(redis.merge)
    try:
        if operation == "update":
            session = await host.repository.update("s", changes={"k": "late"})
        else:
            found = await host.repository.get("s")
            assert found is not None
            session = found
    except StoreUnavailableError as error:
        print(type(error).__name__, error)
    else:
        print(session.data)
    await host.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
