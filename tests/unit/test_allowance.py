"""The token bucket."""

from __future__ import annotations

import time

import pytest

from session_ops.allowance import Allowance


def test_so_many_at_once_and_so_many_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    allowance = Allowance(5)
    assert [allowance.take() for _ in range(7)] == [True] * 5 + [False] * 2
    now += 0.1
    assert not allowance.take()
    now += 0.15
    assert allowance.take(), "what was refused was not counted"
    assert not allowance.take()
    now += 3600
    assert [allowance.take() for _ in range(7)] == [True] * 5 + [False] * 2, "nothing is saved up beyond a second"
