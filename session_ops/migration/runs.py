"""Runs of the mover in the control tables: who is at work, what is left, and what a killed mover had claimed.

One lock for the operators, with a token that rises with every take: what carries an older token is refused by the
statement itself, so that a mover that was paused for hours claims nothing any more. A run goes through the table in
slices. A mover takes one for `HOLD` seconds; what a dead one has left, its slice with the ids that it had claimed, is
taken by the next. So any number of movers share a run, and a run outlives all of them.
"""

from __future__ import annotations

import os
import secrets
import socket
from typing import TYPE_CHECKING, Any, Final

import msgspec
import sqlalchemy

from session_ops.errors import HeldError, PreconditionError, StoreUnavailableError
from session_ops.migration.audit import Audit
from session_ops.migration.run_records import FencedError, Lock, Run, Slice, Target
from session_ops.stores.control_schema import COUNTS
from session_ops.stores.legacy_errors import NOT_PREPARED, STORE, as_unprepared
from session_ops.stores.legacy_prepared import Statement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from session_ops.owned_access import OwnedStore
    from session_ops.stores.legacy_database import Transaction
    from session_ops.stores.legacy_moves import Moves

HOLD: Final = 30.0
"""Seconds after which the lock and the slice of a mover that gives no sign of life are free."""

ROWS: Final = 5_000
"""Of a slice: what one statement may have to look at."""

PASSES: Final = 5
"""Through the table at most. Rows that were locked, or that a host with another flag has moved meanwhile, are met by
the next; after that many a host's flag is against the stage."""

_RUN: Final = ", ".join(Run.__struct_fields__)
_SLICE: Final = ", ".join(Slice.__struct_fields__)
_ADDED: Final = ", ".join(f"{name} = {name} + :{name}" for name in COUNTS)
_SET: Final = ", ".join(f"{name} = :{name}" for name in COUNTS)


class RunStore:
    """The statements. `me` names this mover, USER@HOST:PID. Raises as `ControlStore` does."""

    def __init__(self, store: OwnedStore, moves: Moves, me: str) -> None:
        self._database = store.database
        self._moves = moves
        self._me = me
        self._audit = Audit(store.database, store.control_schema, me)
        driver = store.database.engine.dialect
        schema = store.control_schema
        quote = driver.identifier_preparer.format_table
        tables = {
            name: quote(getattr(schema, name)) for name in ("runs", "slices", "lock", "stage", "quarantine", "control")
        }
        now = str(store.database.dialect.now().compile(dialect=driver))
        locking = "FOR UPDATE" if store.database.dialect.name == "postgresql" else ""

        def sql(text: str) -> Statement:
            made = sqlalchemy.text(text.format(**tables, now=now, locking=locking, hold=int(HOLD * 1000)))
            return Statement(lambda: made, driver)

        self._lock = sql("SELECT token, holder, purpose, until, {now} AS now FROM {lock}")
        self._lock_now = sql("SELECT token, holder, purpose, until, {now} AS now FROM {lock} {locking}")
        self._take_lock = sql(
            "UPDATE {lock} SET token = token + 1, holder = :me, purpose = :purpose, until = {now} + {hold}"
        )
        self._keep = sql(
            "UPDATE {lock} SET until = {now} + {hold} WHERE token = :token AND holder IS NOT NULL RETURNING token"
        )
        self._release = sql("UPDATE {lock} SET holder = NULL, until = NULL WHERE token = :token RETURNING token")
        self._stage = sql("SELECT stage, use_redis, percent, canary_ids FROM {stage}")
        self._latest = sql(f"SELECT {_RUN} FROM {{runs}} ORDER BY started_at DESC, run_id LIMIT 1")
        self._history = sql(f"SELECT {_RUN} FROM {{runs}} ORDER BY started_at DESC, run_id LIMIT :most")
        self._run = sql(f"SELECT {_RUN} FROM {{runs}} WHERE run_id = :run {{locking}}")
        self._shown = sql(f"SELECT {_RUN} FROM {{runs}} WHERE run_id = :run")
        self._begin = sql(
            "INSERT INTO {runs} (run_id, token, state, target, started_at, started_by, rate, batch)"
            " VALUES (:run, :token, 'running', :target, {now}, :me, :rate, :batch)"
        )
        self._resume = sql(
            "UPDATE {runs} SET token = :token, state = 'running', reason = NULL, ended_at = NULL,"
            " rate = COALESCE(:rate, rate), batch = COALESCE(:batch, batch) WHERE run_id = :run"
        )
        self._again = sql(
            "UPDATE {runs} SET target = :target, next = '', pass_number = :number, pass_moved = 0 WHERE run_id = :run"
        )
        self._advance = sql(
            "UPDATE {runs} SET next = :next, slices = slices + 1 WHERE run_id = :run AND token = :token"
            " RETURNING slices"
        )
        self._end = sql(
            "UPDATE {runs} SET state = :state, reason = :reason, ended_at = {now}"
            " WHERE run_id = :run AND token = :token AND state = 'running' RETURNING run_id"
        )
        self._abandoned = sql(
            f"SELECT {_SLICE} FROM {{slices}} WHERE run_id = :run AND (token <> :token OR until < {{now}}"
            " OR holder = :me) ORDER BY number LIMIT 1"
        )
        self._open = sql("SELECT count(*) FROM {slices} WHERE run_id = :run")
        self._slices = sql(f"SELECT {_SLICE} FROM {{slices}} WHERE run_id = :run ORDER BY number")
        self._make = sql(
            "INSERT INTO {slices} (run_id, number, token, holder, until, after, upto, scanned)"
            " VALUES (:run, :number, :token, :me, {now} + {hold}, :after, :upto, :scanned)"
        )
        self._adopt = sql(
            "UPDATE {slices} SET token = :token, holder = :me, until = {now} + {hold}"
            " WHERE run_id = :run AND number = :number"
        )
        held = (
            "run_id = :run AND number = :number AND token = :token AND holder = :me"
            " AND EXISTS (SELECT 1 FROM {lock} WHERE token = :token AND holder IS NOT NULL)"
        )
        self._note = sql(
            f"UPDATE {{slices}} SET claimed = :claimed, reason = :reason, until = {{now}} + {{hold}}, {_SET}"
            f" WHERE {held} RETURNING number"
        )
        self._drop = sql(f"DELETE FROM {{slices}} WHERE {held} RETURNING number")
        self._add = sql(f"UPDATE {{runs}} SET pass_moved = pass_moved + :moved, {_ADDED} WHERE run_id = :run")
        self._set = sql(
            "UPDATE {runs} SET paused = :paused, rate = :rate, batch = :batch WHERE run_id = :run AND state = 'running'"
            " RETURNING run_id"
        )

    @property
    def me(self) -> str:
        """This mover, USER@HOST:PID."""
        return self._me

    async def lock(self) -> Lock:
        """Who is at work."""
        [row] = await self._read(self._lock)
        return Lock(**row._asdict())

    async def at_work(self) -> Lock | None:
        """The lock, where somebody who lives has it."""
        lock = await self.lock()
        held = lock.holder is not None and (lock.until or 0) > lock.now and not is_dead(lock.holder)
        return lock if held else None

    async def target(self) -> Target:
        """What the stage row wants. Raises `PreconditionError` where there is no stage."""
        [row] = await self._read(self._stage)
        if row.stage is None:
            raise PreconditionError("the table has no stage: `session-ops migrate prepare --execute` first")
        return self._as_target(row)

    async def latest(self) -> Run | None:
        """The run that was begun last."""
        rows = await self._read(self._latest)
        return self._as_run(rows[0]) if rows else None

    async def history(self, most: int) -> list[Run]:
        """The last runs, the one that was begun last first."""
        return [self._as_run(row) for row in await self._read(self._history, most=most)]

    async def read(self, run_id: str) -> Run:
        """A run as it is."""
        [row] = await self._read(self._shown, run=run_id)
        return self._as_run(row)

    async def slices(self, run_id: str) -> list[Slice]:
        """The slices in work."""
        return [self._as_slice(row) for row in await self._read(self._slices, run=run_id)]

    async def begin(self, *, join: bool, take_over: bool, rate: int | None, batch: int | None) -> Run:
        """Take the lock and begin a run, or go on with one that was interrupted; with `join` help the one in progress.

        Raises `HeldError` with the holder's name while another one is at work, unless `take_over`.
        """

        async def work(transaction: Transaction) -> Run:
            [row] = await transaction.change(self._lock_now)
            lock = Lock(**row._asdict())
            rows = await transaction.change(self._latest)
            last = self._as_run(rows[0]) if rows else None
            held = lock.holder is not None and (lock.until or 0) > lock.now and not is_dead(lock.holder)
            if join:
                if not held or last is None or last.state != "running" or last.token != lock.token:
                    raise PreconditionError("no run is in progress; begin one without --join")
                return last
            if held and not take_over:
                raise HeldError(
                    f"{lock.holder} is at work ({lock.purpose}); help with --join, or --take-over if it is gone"
                )
            resumed = last is not None and last.state in ("running", "stopped")
            run_id = last.run_id if last is not None and resumed else secrets.token_hex(8)
            await transaction.change(self._take_lock, me=self._me, purpose=f"migrate run {run_id}")
            token = lock.token + 1
            [stage] = await transaction.change(self._stage)
            target = self._as_target(stage)
            if not resumed:
                await transaction.change(
                    self._begin, run=run_id, token=token, target=target.text, me=self._me, rate=rate, batch=batch
                )
            else:
                await transaction.change(self._resume, run=run_id, token=token, rate=rate, batch=batch)
            [row] = await transaction.change(self._run, run=run_id)
            taken = "lock taken over" if lock.holder is not None else "lock taken"
            await self._audit.append(transaction, taken, run=run_id, earlier=lock.holder, token=token)
            begun = "run continued" if resumed else "run begun"
            await self._audit.append(transaction, begun, run=run_id, target=target.text, rate=rate, batch=batch)
            return self._as_run(row)

        try:
            return await self._database.change_together(work)
        except StoreUnavailableError as error:
            raise as_unprepared(error) from error

    async def take(self, run: Run, g: int) -> Slice | bool:
        """The next slice for this mover; True: others have the last ones, come again; False: all is done.

        Another pass begins while the last one has moved something, and whenever the stage row wants something else.
        """

        async def work(transaction: Transaction) -> Slice | bool:
            [row] = await transaction.change(self._run, run=run.run_id)
            now = self._as_run(row)
            if now.token != run.token:
                raise FencedError
            rows = await transaction.change(self._abandoned, run=run.run_id, token=run.token, me=self._me)
            if rows:
                left = self._as_slice(rows[0])
                await transaction.change(self._adopt, run=run.run_id, number=left.number, token=run.token, me=self._me)
                return left
            [stage] = await transaction.change(self._stage)
            wanted = f"{self._as_target(stage).text}, generation {g}"
            after, number = now.next, now.pass_number
            if now.target != wanted:
                after, number = "", 1
                await transaction.change(self._again, run=run.run_id, target=wanted, number=number)
            upto, found = await self._moves.slice(transaction, after, ROWS)
            if upto is None:
                [(others,)] = await transaction.change(self._open, run=run.run_id)
                if others:
                    return True
                if now.target == wanted and (not now.pass_moved or number >= PASSES):
                    return False
                await transaction.change(self._again, run=run.run_id, target=wanted, number=number + 1)
                return True
            [(slices,)] = await transaction.change(self._advance, run=run.run_id, token=run.token, next=upto)
            await transaction.change(
                self._make,
                run=run.run_id,
                number=slices,
                token=run.token,
                me=self._me,
                after=after,
                upto=upto,
                scanned=found,
            )
            fresh = dict.fromkeys(COUNTS, 0) | {"scanned": found}
            return Slice(
                number=slices, holder=self._me, until=0, after=after, upto=upto, claimed=[], reason=None, **fresh
            )

        return await self._database.change_together(work)

    async def note(self, transaction: Transaction, run: Run, part: Slice) -> None:
        """The checkpoint, in the transaction of the claim. Raises `FencedError`, which takes the claim back."""
        rows = await transaction.change(
            self._note, claimed=msgspec.json.encode(part.claimed).decode(), reason=part.reason, **self._held(run, part),
            **_counts(part),
        )  # fmt: skip
        if not rows:
            raise FencedError

    async def finish(self, run: Run, part: Slice) -> None:
        """A slice is done; its counts are the run's. Raises `FencedError`."""

        async def work(transaction: Transaction) -> None:
            if not await transaction.change(self._drop, **self._held(run, part)):
                raise FencedError
            moved = part.moved_in + part.moved_back
            await transaction.change(self._add, run=run.run_id, moved=moved, **_counts(part))

        await self._database.change_together(work)

    async def keep(self, run: Run) -> None:
        """Say that this mover lives. Raises `FencedError`."""
        if not await self._database.change(self._keep, token=run.token):
            raise FencedError

    async def end(self, run: Run, state: str, reason: str | None) -> None:
        """The run is done or stopped, and the lock free."""

        async def work(transaction: Transaction) -> None:
            # The lock's row first, as `begin` takes them
            released = await transaction.change(self._release, token=run.token)
            ended = await transaction.change(self._end, run=run.run_id, token=run.token, state=state, reason=reason)
            if ended:
                [row] = await transaction.change(self._run, run=run.run_id)
                counts = {name: row._asdict()[name] for name in COUNTS}
                await self._audit.append(transaction, f"run {state}", run=run.run_id, reason=reason, **counts)
            if released:
                await self._audit.append(transaction, "lock released", run=run.run_id, token=run.token)

        await self._database.change_together(work)

    async def set(self, run: Run, *, paused: bool, rate: int | None, batch: int | None) -> bool:
        """Tell the movers of a run something else; whether it is in progress."""

        async def work(transaction: Transaction) -> bool:
            if not await transaction.change(self._set, run=run.run_id, paused=paused, rate=rate, batch=batch):
                return False
            if paused != run.paused:
                await self._audit.append(transaction, "run paused" if paused else "run resumed", run=run.run_id)
            if (rate, batch) != (run.rate, run.batch):
                await self._audit.append(transaction, "run set", run=run.run_id, rate=rate or 0, batch=batch or 0)
            return True

        return await self._database.change_together(work)

    def _held(self, run: Run, part: Slice) -> dict[str, Any]:
        return {"run": run.run_id, "number": part.number, "token": run.token, "me": self._me}

    async def _read(self, statement: Statement, **parameters: Any) -> Sequence[Any]:
        try:
            rows = await self._database.read(statement, **parameters)
        except StoreUnavailableError as error:
            raise as_unprepared(error) from error
        if not rows and statement in (self._lock, self._stage):
            raise StoreUnavailableError(STORE, NOT_PREPARED)
        return rows

    @staticmethod
    def _as_target(row: Any) -> Target:
        canaries = msgspec.json.decode(row.canary_ids, type=list[str])
        return Target(use_redis=bool(row.use_redis), percent=row.percent, canaries=tuple(sorted(set(canaries))))

    @staticmethod
    def _as_run(row: Any) -> Run:
        return Run(**{**row._asdict(), "paused": bool(row.paused)})

    @staticmethod
    def _as_slice(row: Any) -> Slice:
        return Slice(**{**row._asdict(), "claimed": msgspec.json.decode(row.claimed, type=list[str])})


def _counts(part: Slice) -> dict[str, int]:
    return {name: getattr(part, name) for name in COUNTS}


def is_dead(holder: str) -> bool:
    """Whether a holder of this machine does not run any more. Of other machines only time tells."""
    _, _, where = holder.rpartition("@")
    host, _, pid = where.rpartition(":")
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # it is another user's
    return False
