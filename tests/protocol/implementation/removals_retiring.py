"""The guards of retiring the legacy store and of coming back."""

from __future__ import annotations

from tests.protocol.implementation.removals import Removal

_RETIRING = "migration/retiring.py"
_TRIP = "../../integration/migration/test_retiring.py::"

RETIRING = (
    Removal(
        "generation key: never written again",
        "stores/functions.lua",
        """  if not mode then
    return redis.error_reply('LOST no generation key')
  end
  if mode ~= from and mode ~= to then
    return redis.error_reply('MODE the generation is in mode ' .. mode)
  end
  if mode ~= to then
    call('SET', keys[1], to, 'XX')
  end
  return mode
""",
        """  if mode and mode ~= from and mode ~= to then
    return redis.error_reply('MODE the generation is in mode ' .. mode)
  end
  call('SET', keys[1], to)
  return mode or from
""",
        "test_turns.py::test_a_lost_key_is_never_written_again",
    ),
    Removal(
        "generation key: written under the pin",
        "stores/functions.lua",
        "or #pin ~= 40\n    or not find(replication, 'master_replid:' .. pin, 1, true) then\n"
        "    return redis.error_reply('WRONGSERVER not the pinned server')",
        "then\n    return redis.error_reply('WRONGSERVER not the pinned server')",
        "test_turns.py::test_the_key_turns_on_the_pinned_server_alone",
    ),
    Removal(
        "generation key: on disk before the next step",
        "migration/turning.py",
        "    await asyncio.sleep(seconds)\n    if persistence_flaw(",
        "    if False and persistence_flaw(",
        "test_turns.py::test_a_turn_counts_once_it_is_on_disk",
    ),
    Removal(
        "control row: this generation only, no bump under way",
        "stores/control_store.py",
        '.where(generation, c.mode == parameter("before"), c.closing.is_(None))',
        '.where(c.mode == parameter("before"))',
        "test_turns.py::test_the_control_row_turns_in_the_generation_and_mode_that_were_seen",
    ),
    Removal(
        "hold between mirror and final",
        _RETIRING,
        '            await self._turning.key(row, "mirror", "hold")\n',
        "            pass\n",
        f"{_TRIP}test_a_trip_to_final_and_back_takes_everything_along",
    ),
    Removal(
        "final: only after the drain",
        _RETIRING,
        "        drained = await self._drain().run()\n",
        "        from session_ops.migration.drain import Drained\n"
        "        drained = Drained(passes=0, rows=0, finished=0, left=[])\n",
        f"{_TRIP}test_a_claim_that_nobody_put_is_put_by_the_drain",
    ),
    Removal(
        "drain: asks R as well",
        "migration/drain.py",
        "    return [*ours, *(each.id for each in theirs if each.kind in _ABSENT)]",
        "    return ours",
        f"{_TRIP}test_a_claim_that_nobody_put_is_put_by_the_drain",
    ),
    Removal(
        "back from final: backfill",
        "migration/coming_back.py",
        "                born, brought = await self._backfill(row)\n",
        "                born, brought = 0, 0\n",
        f"{_TRIP}test_a_trip_to_final_and_back_takes_everything_along",
    ),
    Removal(
        "final key: one that outlived a restart is not taken back",
        _RETIRING,
        'if await self._turning.key_now(row) == "final":',
        "if False:",
        f"{_TRIP}test_a_final_key_that_outlived_a_restart_is_not_taken_back",
    ),
    Removal(
        "ends: nobody else takes them on the way",
        _RETIRING,
        "        told += await outbox.empty(self._store.legacy)\n",
        "",
        f"{_TRIP}test_an_end_that_has_left_redis_before_its_row_says_so_is_told",
    ),
    Removal(
        "an answer counts by the mode that it carries",
        "ownership.py",
        'return mode == "final" or self._control.leased(redis.generation)',
        'return mode == "final" or self._control.leased(redis.generation) or self._control.final(redis.generation)',
        "test_turns.py::test_a_host_that_still_believes_in_final_needs_the_lease_again",
    ),
)
