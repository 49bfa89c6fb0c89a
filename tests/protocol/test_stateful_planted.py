"""The machine of the stateful tests finds what it is there for: a protocol with a guard taken away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis.errors import Flaky, FlakyStrategyDefinition
from hypothesis.stateful import run_state_machine_as_test

from session_ops.control import HostControl
from session_ops.migration.coming_back import ComingBack
from session_ops.ownership import Ownership
from tests.protocol.stateful_machine import OwnedMachine
from tests.protocol.test_stateful_owned import BOUNDS, redis, short_wait

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.servers import RedisServer

__all__ = ["redis", "short_wait"]  # fixtures that pytest finds here


def acknowledge_before_the_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    async def mirrored(*_: Any) -> bool:
        return True

    monkeypatch.setattr(Ownership, "_mirror", mirrored)


def read_without_a_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    def leased(control: HostControl, generation: int) -> bool:
        return control.current is not None and control.current.generation == generation

    monkeypatch.setattr(HostControl, "leased", leased)


def come_back_without_a_backfill(monkeypatch: pytest.MonkeyPatch) -> None:
    async def backfill(*_: Any) -> tuple[int, int]:
        return 0, 0

    monkeypatch.setattr(ComingBack, "_backfill", backfill)


@pytest.mark.parametrize(
    "plant",
    [
        acknowledge_before_the_mirror,
        pytest.param(come_back_without_a_backfill, marks=pytest.mark.slow),
        pytest.param(read_without_a_lease, marks=pytest.mark.slow),
    ],
)
def test_a_guard_taken_away_is_noticed(
    plant: Callable[[pytest.MonkeyPatch], None],
    redis: RedisServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant(monkeypatch)
    machine = type("Planted", (OwnedMachine,), {"server": redis, "url": f"sqlite:///{tmp_path}/sessions.db"})
    # Time is real: where a failure does not come again at once, hypothesis says so with the failure inside
    with pytest.raises((AssertionError, ExceptionGroup, Flaky, FlakyStrategyDefinition)):
        run_state_machine_as_test(machine, settings=settings(BOUNDS, max_examples=100, derandomize=False))
