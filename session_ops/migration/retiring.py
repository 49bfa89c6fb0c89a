"""`migrate finalize`: the legacy store is retired, and Redis alone keeps the sessions (docs/ownership.md, section 9).

Hold, drain, final, each with what it waits for, while the fleet serves. Interrupted anywhere the same command goes on;
until the generation key says final the way back is short (`abandon`), and after it `migrate mirror`.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from session_ops import bump as bumps
from session_ops.errors import PreconditionError, StoreUnavailableError, UnfinishedError
from session_ops.generation import UNUSABLE
from session_ops.migration.gates import control_flaw, hosts_flaw
from session_ops.migration.kept import find_kept, keep
from session_ops.migration.quarantine import Quarantine
from session_ops.migration.stages import BULK, FINAL, FINALIZE, MIRROR, REACHED, SOAK, STOPPED
from session_ops.migration.turning import persistence, persistence_flaw

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from session_ops.migration.audit import Audit
    from session_ops.migration.drain import Drain, Drained
    from session_ops.migration.mover import Mover
    from session_ops.migration.outbox import Outbox
    from session_ops.migration.run_records import Run
    from session_ops.migration.runs import RunStore
    from session_ops.migration.stages import Stage, Stages
    from session_ops.migration.turning import Turning
    from session_ops.migration.validated import Validated
    from session_ops.migration.validation import Validator
    from session_ops.owned_access import OwnedStore
    from session_ops.stores.control_store import ControlRow, HostRow

SOAKED: Final = 86_400.0
"""Seconds that every session has been in Redis, with the mirror on, before that may end."""


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator says. `run_id`: the migration's last run; `soaked`: seconds at 100 %; `hosts`: those that the
    inventory has, none: whatever reports; `leave_broken`: rows that cannot move stay behind in the legacy store.
    """

    run_id: str | None = None
    soaked: float = SOAKED
    hosts: tuple[str, ...] = ()
    leave_broken: bool = False


class Outlook(msgspec.Struct, frozen=True, kw_only=True):
    """What would be done, and what may be lost afterwards."""

    changed: bool
    run_id: str | None
    generation: int
    prefix: str | None
    mode: str
    replicas: int
    will: list[str]
    risks: list[str]


class Finalized(msgspec.Struct, frozen=True, kw_only=True):
    """What was done. `prefix`: what the hosts' SESSION_GENERATION_PREFIX is to be without a legacy store."""

    changed: bool
    run_id: str
    generation: int
    prefix: str
    moved: int
    told: int
    drained: Drained | None
    validated: Validated | None
    seconds: float


class Retirement:
    """Retires one legacy store. `lease` in seconds."""

    def __init__(
        self,
        store: OwnedStore,
        runs: RunStore,
        stages: Stages,
        audit: Audit,
        turning: Turning,
        *,
        lease: float,
        mover: Callable[[], Mover],
        validator: Callable[[], Validator],
        drain: Callable[[], Drain],
        outbox: Callable[[], Outbox],
    ) -> None:
        self._store = store
        self._runs = runs
        self._stages = stages
        self._audit = audit
        self._quarantine = Quarantine(store)
        self._turning = turning
        self._lease = lease
        self._mover = mover
        self._validator = validator
        self._drain = drain
        self._outbox = outbox

    async def look(self, terms: Terms) -> Outlook:
        """What would be done. Changes nothing. Raises `PreconditionError` with everything that is in the way."""
        row = await self._turning.look()
        stage = await self._stages.read()
        latest = await self._runs.latest()
        said = await persistence(self._store.connection)
        if reasons := await self._flaws(row, stage, said, terms):
            raise PreconditionError(*reasons)
        replicas = int(said.get("connected_slaves", "0"))
        # Of this time: an account may be left from a finalize before a way back
        kept = await find_kept(self._store.connection, row.prefix or "") if stage.stage == FINAL else None
        over = kept is not None and kept.stage.changed_at == stage.changed_at
        old = "the legacy store does not follow any more: it stays as it is at this moment"
        risks = [f"{old}, and a rollback needs `-e migrate_to=mirror` first, with a live Redis"]
        if not replicas:
            lost = "when it dies, the last 2 s of what it has acknowledged may be lost"
            risks.insert(0, f"this is one Redis without a replica: {lost}, with its disk all since the last backup")
        will = [] if over else [
            "both stores are compared",
            "hold: no session moves back, none is born in the legacy store; writes are still mirrored",
            "drain: Redis has every live session, and the agent manager has heard of every end",
            f"final: generation {row.generation}, prefix {row.prefix}, is Redis' alone",
        ]  # fmt: skip
        return Outlook(
            changed=not over, run_id=_last_run(stage, latest), generation=row.generation,
            prefix=row.prefix, mode=row.mode, replicas=replicas, will=will, risks=risks,
        )  # fmt: skip

    async def run(self, terms: Terms, *, take_over: bool = False) -> Finalized:
        """Hold, drain, final. Raises as `look`, `HeldError`, `MismatchError`, `UnfinishedError` and
        `StoreUnavailableError`.
        """
        began = time.monotonic()
        outlook = await self.look(terms)
        if not outlook.changed:
            return self._finalized(outlook, began, changed=False)
        done = dict[str, Any]()
        if (await self._stages.read()).stage != FINAL:
            done = await self._retire(terms, take_over=take_over)
        await keep(self._store, self._stages, self._runs, self._audit)
        return self._finalized(outlook, began, changed=True, **done)

    async def _retire(self, terms: Terms, *, take_over: bool) -> dict[str, Any]:
        """From mode mirror, or from wherever an earlier try came to, to the stage final."""
        await self._stages.begin_turn(FINALIZE, run_id=terms.run_id, take_over=take_over)
        row, done = await self._turning.look(), dict[str, Any]()
        if row.mode == "mirror":
            done["validated"] = await self._turning.compare(self._validator(), "nothing was changed")
            await self._turning.row(row, "mirror", "hold")
        # What one store has told of its ends, and the other has not, nobody may take from here on
        async with self._outbox() as outbox:
            if (await self._turning.look()).mode == "hold":
                done |= await self._hold(row, outbox, terms, take_over=take_over)
                await self._turning.row(row, "hold", "final")
            await self._final(row)
        drained: Drained | None = done.get("drained")
        facts = {"generation": row.generation, "prefix": row.prefix, "rows": drained.rows if drained else None}
        await self._stages.end_turn(FINALIZE, FINAL, facts=msgspec.json.encode(facts).decode())
        return done

    async def abandon(self, *, take_over: bool = False) -> bool:
        """The mirror stays: a hold is given up; whether there was one.

        Raises `HeldError`, and `PreconditionError` where it is final.
        """
        await self._stages.need_free(take_over=take_over)
        row = await self._turning.look()
        if row.mode == "final":
            raise PreconditionError("the mode is final already: `migrate mirror` brings the mirror back")
        if row.mode == "mirror":
            return False
        await self._turning.key(row, "hold", "mirror")
        await self._turning.row(row, "hold", "mirror")
        await self._turning.hosts(row, "mirror")
        steps = (await self._stages.read()).steps
        if steps and steps[0].step == FINALIZE:
            await self._stages.end(FINALIZE, STOPPED, reason="abandoned")
        return True

    async def _hold(self, row: ControlRow, outbox: Outbox, terms: Terms, *, take_over: bool) -> dict[str, Any]:
        """From the control row's hold to Redis having everything."""
        try:
            await self._turning.key(row, "mirror", "hold")
        except StoreUnavailableError as error:
            if error.reason in UNUSABLE:
                await self._turning.row(row, "hold", "mirror")
            raise
        await self._turning.at("wait")
        await asyncio.sleep(self._lease + bumps.BEYOND_LEASE)
        await self._turning.hosts(row, "hold")
        await self._turning.at("move")
        moved = await self._mover().run(take_over=take_over)
        if moved.state != "done":
            raise UnfinishedError(f"stopped: {moved.reason}; the same command goes on")
        await self._turning.at("drain")
        drained = await self._drain().run()
        if drained.left and not terms.leave_broken:
            raise UnfinishedError(
                f"{len(drained.left)} sessions do not come to Redis, {drained.left[0]!r} first: `session-ops migrate "
                "quarantine list` says why. Put them right, or leave them in the archive with --leave-broken; "
                "`session-ops migrate finalize --abandon --execute` goes back"
            )
        await self._turning.at("clean")
        told = await outbox.empty()
        # What was being ended while its record left Redis' index has reached its row by now; what ends from here on
        # stays in the index, and Redis tells of it
        await asyncio.sleep(self._lease)
        told += await outbox.empty(self._store.legacy)
        return {"moved": moved.moved_in, "drained": drained, "told": told}

    async def _final(self, row: ControlRow) -> None:
        """From the control row's final to the generation key's. Every host asks Redis for everything in between."""
        await self._turning.hosts(row, "final")
        try:
            await self._turning.key(row, "hold", "final")
        except StoreUnavailableError as error:
            if error.reason not in UNUSABLE:
                raise
            if await self._turning.key_now(row) == "final":
                # An earlier try came so far, and what was acknowledged since is Redis' alone
                await self._turning.written_down()
                return
            # The legacy store is still complete: nothing was acknowledged that it has not
            await self._turning.row(row, "final", "hold")
            raise UnfinishedError(
                f"Redis is not the server of generation {row.generation} any more ({error.reason}): it was restarted"
                " or replaced, so the legacy store keeps every session. Nothing is lost: the hosts begin another"
                " generation by themselves; then migrate to 100 % again"
            ) from error

    async def _flaws(self, row: ControlRow, stage: Stage, said: dict[str, str], terms: Terms) -> list[str]:
        latest = await self._runs.latest()
        reports = await self._store.control_store.hosts(self._lease)
        if stage.stage == FINAL:
            return []
        reasons = [
            run_flaw(terms.run_id, _last_run(stage, latest)),
            stage_flaw(stage, row, terms.soaked),
            flags_flaw(reports),
            persistence_flaw(said),
        ]
        if row.mode != "final":  # else it is past everything that these are about
            mirrored = msgspec.structs.replace(row, mode="mirror")
            reasons += [control_flaw(mirrored, bumps=False), hosts_flaw(reports, terms.hosts, row)]
            broken = sum((await self._quarantine.counts()).values())
            if broken and not terms.leave_broken:
                reasons.append(
                    f"{broken:,} rows are in quarantine and would only be in the archive: `session-ops migrate "
                    "quarantine list`; put them right, or leave them there with --leave-broken"
                )
        return [reason for reason in reasons if reason is not None]

    @staticmethod
    def _finalized(outlook: Outlook, began: float, *, changed: bool, **done: Any) -> Finalized:
        return Finalized(
            changed=changed, run_id=outlook.run_id or "", generation=outlook.generation, prefix=outlook.prefix or "",
            moved=done.get("moved", 0), told=done.get("told", 0), drained=done.get("drained"),
            validated=done.get("validated"), seconds=round(time.monotonic() - began, 3),
        )  # fmt: skip


def _last_run(stage: Stage, latest: Run | None) -> str | None:
    """The run that the operator is to name: the drain's own run does not count."""
    step = stage.steps[0] if stage.steps else None
    if step is not None and step.step == FINALIZE and step.state != REACHED and step.run_id is not None:
        return step.run_id
    return latest.run_id if latest is not None else None


def run_flaw(named: str | None, latest: str | None) -> str | None:
    """Whether the operator has named this migration's run."""
    if latest is None:
        return "no session was ever moved: take the migration to 100 % first (playbooks/migrate.yml)"
    if named is None:
        return f"the run is to be named, so that it is this migration that ends: its last run is {latest}"
    if named != latest:
        return f"run {named!r} is not the last run of this migration, which is {latest}"
    return None


def stage_flaw(stage: Stage, row: ControlRow, soaked: float) -> str | None:
    """Whether every session has been in Redis for long enough (seconds)."""
    begun = bool(stage.steps) and stage.steps[0].step == FINALIZE and stage.steps[0].state != REACHED
    if stage.stage != SOAK and not (begun and stage.stage in (BULK, SOAK)):
        return f"the stage is {stage.stage}, {stage.target.text}: take the migration to 100 % first"
    since = next(
        (each.ended_at for each in stage.steps if each.state == REACHED and each.step in ("100", MIRROR)), None
    )
    if since is None:
        return "no step has reached 100 %: playbooks/migrate.yml -e migrate_to=100"
    left = soaked - (row.now - since) / 1000
    if left > 0:
        return f"the soak is not over: {left / 3600:.1f} h are left of {soaked / 3600:g} h (finalize_after)"
    return None


def flags_flaw(reports: Sequence[HostRow]) -> str | None:
    """Whether every live host has every session's home in Redis."""
    other = sorted({each.host for each in reports if each.live and (not each.use_redis or each.percent != 100)})
    if other:
        return f"the flag is not at 100 % on {', '.join(other)}: playbooks/migrate.yml -e migrate_to=100"
    return None
