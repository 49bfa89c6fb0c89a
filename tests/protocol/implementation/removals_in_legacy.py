"""The guards inside the steps in SQL."""

from __future__ import annotations

from tests.protocol.implementation.removals import Removal

_OWNED = "stores/legacy_owned.py"
_MIRROR = "stores/legacy_mirror.py"

IN_LEGACY = (
    Removal(
        "L.claim: only what L owns",
        _OWNED,
        "claimable = and_(c.generation <= generation, or_(c.owner == legacy, c.generation < generation))",
        "claimable = c.generation <= generation",
        "test_legacy_steps.py::test_claim_takes_only_what_the_legacy_store_owns",
    ),
    Removal(
        "L.claim: not what a newer generation has written",
        _OWNED,
        "and_(c.generation <= generation, or_(c.owner == legacy, c.generation < generation))",
        "or_(c.owner == legacy, c.generation < generation)",
        "test_legacy_steps.py::test_claim_leaves_what_a_newer_generation_has_written",
    ),
    Removal(
        "L.claim: version + 1",
        _OWNED,
        ".values(owner=redis, generation=generation, version=raised)",
        ".values(owner=redis, generation=generation)",
        "test_legacy_steps.py::test_claim_raises_the_version",
    ),
    Removal(
        "L.cas: version",
        _OWNED,
        '.where(one, c.version == number("seen"), ~c.deleted, c.expires_at > now, untold)',
        '.where(one, c.version >= number("seen"), ~c.deleted, c.expires_at > now, untold)',
        "test_legacy_steps.py::test_cas_asks_for_the_version_seen",
    ),
    Removal(
        "L.cas: not expired",
        _OWNED,
        "~c.deleted, c.expires_at > now, untold)",
        "~c.deleted, untold)",
        "test_legacy_steps.py::test_cas_leaves_what_has_expired",
    ),
    Removal(
        "L.cas: sets the generation",
        _OWNED,
        ".values(version=raised, owner=legacy, generation=generation)",
        ".where(generation == generation).values(version=raised, owner=legacy)",
        "test_legacy_steps.py::test_cas_sets_the_generation",
    ),
    Removal(
        "L: deleted rows stay",
        _OWNED,
        "cas.values(deleted=true(), data=literal_column(\"'{}'\"), updated_at=now)",
        'delete(table).where(one, c.version == number("seen"), generation == generation)',
        "test_apply.py::test_a_row_deleted_in_the_legacy_store_stays_too",
    ),
    Removal(
        "L: deleted rows stay until the session would have expired",
        "stores/legacy_statements.py",
        "and_(c.told_at > digits(0), c.expires_at < now - digits(margin), self._ours)",
        "and_(c.told_at > digits(0), self._ours)",
        "test_apply.py::test_deleted_rows_stay_and_no_late_mirror_revives_them_on_the_way_back_from_final",
    ),
    Removal(
        "L.apply: version",
        _MIRROR,
        " AND s.{version} < v.version",
        "",
        "test_apply.py::test_apply_asks_for_a_lower_version",
        2,
    ),
    Removal(
        "L.apply: generation",
        _MIRROR,
        "s.{generation} = :g",
        "s.{generation} >= :g",
        "test_apply.py::test_apply_asks_for_its_generation",
        2,
    ),
    Removal(
        "L.apply: takes the data of the marker",
        _MIRROR,
        "CASE v.state WHEN 'deleted' THEN '{{}}' ELSE",
        "CASE v.state WHEN 'deleted' THEN '{{}}' WHEN 'moved' THEN {kept} ELSE",
        "test_apply.py::test_apply_takes_the_data_of_the_marker",
    ),
    Removal(
        "L.apply: inserts only if L is incomplete",
        _MIRROR,
        "and_(row.c.generation == generation, row.c.mode == literal_column(\"'final'\"))",
        "row.c.generation == generation",
        "test_apply.py::test_apply_makes_a_row_only_while_the_legacy_store_is_incomplete",
    ),
    Removal(
        "L.insert: owner L in mirror mode only",
        _OWNED,
        "control.c.mode == literal_column(\"'mirror'\")\n",
        "true()\n",
        "test_legacy_steps.py::test_insert_for_the_legacy_store_is_in_mode_mirror_alone",
    ),
    Removal(
        "L.insert: owner R in the generation that the host knows",
        _OWNED,
        'control.c.generation == bindparam("g", type_=Integer)',
        'control.c.generation >= bindparam("g", type_=Integer)',
        "test_legacy_steps.py::test_insert_for_redis_is_in_the_generation_that_the_host_knows",
    ),
    Removal(
        "cleanup: version",
        _OWNED,
        'delete(table).where(one, c.version == number("seen"))',
        'delete(table).where(one, c.version >= number("seen"))',
        "test_legacy_steps.py::test_purge_asks_for_the_version_seen",
    ),
)
"""By step: CLAIM, CAS, APPLY, INSERT, PURGE."""
