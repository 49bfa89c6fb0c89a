"""The real service passes, through two hosts over one Redis, and while one of them is killed and starts again."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

from tests.integration.service_process import TOKEN, ServiceProcess
from tests.ledger.ledger import Ledger
from tests.servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable


async def test_the_service_passes(make_service: Callable[..., ServiceProcess], ready_redis: RedisServer) -> None:
    services = [make_service(ready_redis).start() for _ in range(2)]
    ledger = Ledger([each.url for each in services], TOKEN, rate=300, seed=3)
    await ledger.start()
    await asyncio.sleep(2)
    await ledger.stop()
    report = ledger.report()
    assert report.ok, report.table()
    assert not report.whole["failed"], report.table()


async def test_the_service_passes_when_a_host_is_killed(
    make_service: Callable[..., ServiceProcess], ready_redis: RedisServer
) -> None:
    services = [make_service(ready_redis).start() for _ in range(2)]
    ledger = Ledger([each.url for each in services], TOKEN, rate=300, seed=3)
    await ledger.start()
    await asyncio.sleep(1)
    os.kill(services[0].pid, signal.SIGKILL)
    await asyncio.to_thread(services[0].wait)
    await asyncio.to_thread(services[0].start)
    await asyncio.sleep(1)
    await ledger.stop()
    report = ledger.report()
    assert report.ok, report.table()
    silence = report.whole["silence"]
    assert silence[f"through {services[0].url}"] > 3 * silence[f"through {services[1].url}"], report.table()
