"""The gates of a step, each on what it looks at."""

from __future__ import annotations

from typing import Any

import pytest

from session_ops.errors import PreconditionError, StageConflictError
from session_ops.migration.gates import control_flaw, hosts_flaw, memory_flaw, rows_flaw
from session_ops.migration.outlook import Plan
from session_ops.migration.run_records import Target
from session_ops.migration.stages import wanted
from session_ops.stores.control_store import ControlRow, HostRow


def control(**changes: Any) -> ControlRow:
    fields: dict[str, Any] = {
        "generation": 3, "prefix": "3-a", "pin": "p", "mode": "mirror", "closing": None, "closing_at": None,
        "redis": "on", "addresses": "", "identity": None, "old_prefixes": (), "bumped_at": (), "now": 1,
    }  # fmt: skip
    return ControlRow(**(fields | changes))


def host(name: str, **changes: Any) -> HostRow:
    fields: dict[str, Any] = {
        "host": name, "pid": 1, "release": "1", "use_redis": True, "percent": 1, "seen_at": 1, "generation": 3,
        "mode": "mirror", "redis_good_at": 1, "redis_good_since": 1, "redis_bad_since": None, "pin": "p",
        "live": True,
    }  # fmt: skip
    return HostRow(**(fields | changes))


def plan(**changes: Any) -> Plan:
    fields: dict[str, Any] = dict.fromkeys(
        ("rows", "live", "deleted", "expired", "in_redis", "to_redis", "to_legacy", "bytes", "largest"), 1
    )
    fields |= {
        "target": "", "expiry": {}, "broken": {}, "broken_ids": {}, "seconds": 1.0, "rate": 1.0,
        "memory_needed": 2_000, "used_memory": 1, "maxmemory": 10, "fits": True,
    }  # fmt: skip
    return Plan(**(fields | changes))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, None),
        ({"mode": "hold"}, "the mode is hold"),
        ({"closing": "t"}, "a bump is under way"),
        ({"redis": "away"}, "given Redis up"),
        ({"redis": "off", "pin": None}, "generation bump --execute"),
        ({"pin": None}, "no server is pinned"),
    ],
)
def test_the_control_row_must_be_in_order(changes: dict[str, Any], word: str | None) -> None:
    flaw = control_flaw(control(**changes), bumps=False)

    assert flaw is None if word is None else word in str(flaw)


def test_redis_may_be_off_where_a_bump_comes_before_the_step() -> None:
    assert control_flaw(control(redis="off", pin=None), bumps=True) is None


@pytest.mark.parametrize(
    ("rows", "names", "word"),
    [
        ([host("app1"), host("app2")], ["app1", "app2"], None),
        ([host("app1"), host("app2")], [], None),
        ([host("app1"), host("app2", live=False)], ["app1", "app2"], "app2 of the inventory does not report"),
        ([host("app1"), host("app3")], ["app1"], "app3 serves and is not in the inventory"),
        ([host("app1"), host("app3", live=False)], ["app1"], None),
        ([host("app1", generation=2)], ["app1"], "does not know generation 3"),
        ([host("app1", redis_bad_since=5)], ["app1"], "app1 does not reach Redis"),
        ([], [], "no host reports"),
    ],
)
def test_every_host_of_the_inventory_and_no_other_must_serve(
    rows: list[HostRow], names: list[str], word: str | None
) -> None:
    flaw = hosts_flaw(rows, names, control())

    assert flaw is None if word is None else word in str(flaw)


def test_redis_must_have_room_and_not_too_many_rows_may_be_broken() -> None:
    assert memory_flaw(plan()) is None
    assert "raise redis_maxmemory" in str(memory_flaw(plan(fits=False)))
    assert "did not say" in str(memory_flaw(plan(fits=None)))
    assert rows_flaw(plan(broken={"data: pickled": 3}), 3) is None
    assert "3 rows cannot move (data: pickled)" in str(rows_flaw(plan(broken={"data: pickled": 3}), 2))


def test_a_step_only_goes_up_and_keeps_the_canaries() -> None:
    at_ten = Target(use_redis=True, percent=10, canaries=("a",))
    off = Target(use_redis=False, percent=50)

    assert wanted("50", at_ten, ()) == Target(use_redis=True, percent=50, canaries=("a",))
    assert wanted("10", at_ten, ("b",)).canaries == ("a", "b")
    assert wanted("canary", off, ("b",)) == Target(use_redis=True, percent=0, canaries=("b",))
    assert wanted("1", off, ()).percent == 1, "a flag that is off is 0 %, whatever its percentage"
    with pytest.raises(StageConflictError, match="rollback"):
        wanted("1", at_ten, ())
    with pytest.raises(PreconditionError, match="--id"):
        wanted("canary", off, ())
