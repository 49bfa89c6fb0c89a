"""The guards inside the functions in Redis."""

from __future__ import annotations

from tests.protocol.implementation.removals import Removal

_LUA = "stores/functions.lua"
_ENDED = "  if state ~= ACTIVE or expires <= c.now then\n    return 0\n  end\n  if "
_ACTIVE_ONLY = "  if state ~= ACTIVE then\n    return 0\n  end\n  if "
_ALIVE_ONLY = "  if expires <= c.now then\n    return 0\n  end\n  if "
_LOST = "  if not mode then\n    return nil, redis.error_reply('LOST no generation key')\n  end"
_FOUND = "  mode = mode or 'mirror'"

IN_REDIS = (
    Removal(
        "R.get, R.kill: active records only",
        "stores/layout.py",
        "if state != ACTIVE or expires <= now:",
        "if expires <= now:",
        "test_redis_steps.py::test_reads_take_active_records_alone",
    ),
    Removal(
        "R.get, R.kill: active records only",
        _LUA,
        _ENDED + "expected ~=",
        _ALIVE_ONLY + "expected ~=",
        "test_redis_steps.py::test_a_change_takes_active_records_alone[kill]",
    ),
    Removal(
        "R.put: version",
        _LUA,
        "  if known >= version then\n    return 3\n  end\n",
        "",
        "test_redis_steps.py::test_put_asks_for_a_lower_version",
    ),
    Removal(
        "R.put: not expired",
        _LUA,
        "  if expires <= c.now then\n    return ends > c.now and 1 or 0\n  end\n",
        "",
        "test_redis_steps.py::test_put_of_a_row_that_has_expired_writes_nothing",
    ),
    Removal("R.put: generation key", _LUA, _LOST, _FOUND, "test_server.py::test_lost_data_are_noticed_by_a_put"),
    Removal("R.mark: generation key", _LUA, _LOST, _FOUND, "test_server.py::test_lost_data_are_noticed_by_a_mark"),
    *(
        Removal(
            "R.cas: version",
            _LUA,
            _ENDED + following,
            _ALIVE_ONLY + following,
            f"test_redis_steps.py::test_a_change_takes_active_records_alone[{name}]",
        )
        for name, following in (("merge", "#control >"), ("rewrite", "args[at] ~="))
    ),
    Removal(
        "R.cas: version",
        _LUA,
        "if state == ACTIVE and expires > c.now then",
        "if expires > c.now then",
        "test_redis_steps.py::test_a_change_takes_active_records_alone[slide]",
    ),
    *(
        Removal(
            "R.cas: not expired",
            _LUA,
            _ENDED + following,
            _ACTIVE_ONLY + following,
            f"test_redis_steps.py::test_a_change_leaves_what_has_expired[{name}]",
        )
        for name, following in (("merge", "#control >"), ("rewrite", "args[at] ~="), ("kill", "expected ~="))
    ),
    Removal(
        "R.cas: not expired",
        _LUA,
        "if state == ACTIVE and expires > c.now then",
        "if state == ACTIVE then",
        "test_redis_steps.py::test_a_change_leaves_what_has_expired[slide]",
    ),
    Removal(
        "R.kill: leaves a tombstone",
        _LUA,
        "  call('HSET', key, '', head)\n  call('PEXPIREAT', key, format('%d', expires + c.margin))\n  leave_indexes",
        "  leave_indexes",
        "test_redis_steps.py::test_kill_leaves_a_tombstone",
    ),
    Removal(
        "R.kill: version + 1",
        _LUA,
        "DELETED, version + 1,",
        "DELETED, version,",
        "test_redis_steps.py::test_kill_raises_the_version_of_what_it_ends",
    ),
    Removal(
        "R.mark: version + 1",
        _LUA,
        "MOVED, version + 1,",
        "MOVED, version,",
        "test_redis_steps.py::test_mark_raises_the_version",
    ),
    Removal(
        "R.mark: version + 1",
        _LUA,
        "MARKER, row + 1,",
        "MARKER, row,",
        "test_redis_steps.py::test_mark_on_an_absent_key_raises_the_version",
    ),
    Removal(
        "R.mark: on an absent key",
        _LUA,
        "  -- The move to Redis was never finished\n",
        "  if not packed then\n    return 0\n  end\n",
        "test_redis_steps.py::test_mark_on_an_absent_key_stops_a_late_put",
    ),
    Removal(
        "R.mark: over an older marker",
        _LUA,
        "    if version >= row then\n",
        "    if true then\n",
        "test_redis_steps.py::test_mark_over_an_older_marker_stops_a_late_put",
    ),
    Removal(
        "markers and tombstones live as long as the session",
        _LUA,
        "  call('PEXPIREAT', key, format('%d', expires + c.margin))\n  leave_indexes(c, id, user, agent, created)\n"
        "  call('ZADD', c.expiry, c.now, id)",
        "  call('PEXPIREAT', key, format('%d', c.now + c.margin))\n  leave_indexes(c, id, user, agent, created)\n"
        "  call('ZADD', c.expiry, c.now, id)",
        "test_redis_steps.py::test_a_tombstone_lives_as_long_as_the_session",
    ),
    Removal(
        "markers and tombstones live as long as the session",
        _LUA,
        "  call('PEXPIREAT', key, expires + c.margin)\n  unfile",
        "  call('PEXPIREAT', key, c.now + c.margin)\n  unfile",
        "test_redis_steps.py::test_a_marker_lives_as_long_as_the_session[False]",
    ),
    Removal(
        "R.mark: mirror mode only",
        _LUA,
        "c.mode == 'mirror' and mark_one(c, keys[i], args, c.starts[i]) or 0",
        "mark_one(c, keys[i], args, c.starts[i])",
        "test_modes.py::test_mark_is_refused_in_mode_hold",
    ),
    Removal(
        "R.create: final mode only",
        _LUA,
        "register('create', create, FINAL)",
        "register('create', create, ANY)",
        "test_modes.py::test_redis_creates_in_mode_final_alone",
    ),
    Removal(
        "pin: names the run of the server",
        _LUA,
        "if #pin ~= 40 or not find(replication, 'master_replid:' .. pin, 1, true) then",
        "if #pin ~= 40 then",
        "test_server.py::test_a_restarted_server_is_not_the_pinned_one",
    ),
    Removal(
        "pin: skipped only where the caller's own control row is final",
        _LUA,
        "if not (caller_final and (mode == 'final' or pin == '')) then",
        "if not (mode == 'final') then",
        "test_server.py::test_the_pin_is_checked_unless_the_callers_own_control_row_is_final",
    ),
    Removal(
        "pin of the server: a primary",
        _LUA,
        "  if not find(replication, 'role:master', 1, true) then\n    return nil, redis",
        "  if false then\n    return nil, redis",
        "test_server.py::test_a_replica_is_not_the_server_though_it_has_its_replication_id",
    ),
    Removal(
        "generation key: never over another mode",
        _LUA,
        "  if mode and mode ~= wanted then\n",
        "  if false then\n",
        "test_modes.py::test_a_generation_is_not_opened_over_another_mode",
    ),
)
"""By step: GET, PUT, CAS, KILL, MARK, CREATE; then what every call begins with."""
