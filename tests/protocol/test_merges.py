"""Merges of single attributes, whoever owns the session and while it moves: none undoes another."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from session_ops.errors import StoreUnavailableError
from session_ops.records import NewSession
from tests.owned import OFF, ON

if TYPE_CHECKING:
    from session_ops.settings import Flag
    from tests.owned import Host
    from tests.protocol.conftest import OpenFleet


async def merge(host: Host, name: str, value: int) -> None:
    """Set one attribute and remove another, as often as it takes: nothing has happened where it is refused."""
    while True:
        try:
            await host.repository.update("merged", changes={name: value}, remove=[f"old{value}"])
        except StoreUnavailableError as error:
            assert error.reason == "collision"  # noqa: PT017 - most calls do not fail
        else:
            return


@pytest.mark.parametrize("database", ["postgresql", "sqlite"])
@pytest.mark.parametrize("flags", [(ON, ON), (OFF, OFF), (ON, OFF)], ids=["redis", "legacy", "moving"])
async def test_every_attribute_that_was_set_or_removed_alone_stays_so(
    flags: tuple[Flag, Flag], database: str, open_fleet: OpenFleet
) -> None:
    fleet = await open_fleet(database)
    for host, flag in zip(fleet.hosts, flags, strict=True):
        host.flag = flag
    data = {f"old{number}": number for number in range(24)} | {"kept": "so"}
    await fleet.hosts[0].repository.create(NewSession(id="merged", user_id="ann", data=data))
    await asyncio.gather(*[merge(fleet.hosts[number % 2], f"new{number}", number) for number in range(24)])
    expected = {f"new{number}": number for number in range(24)} | {"kept": "so"}
    for host in fleet.hosts:
        session = await host.repository.get("merged")
        assert session is not None
        assert session.data == expected
