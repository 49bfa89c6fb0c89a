"""All looks in their order. What cannot be looked at, because a store is out of reach, is named and not guessed."""

from __future__ import annotations

import asyncio
import platform
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import msgspec

from session_ops import __version__
from session_ops.doctor import host_checks, legacy_checks, redis_checks
from session_ops.doctor.findings import Finding, finding
from session_ops.doctor.rights_checks import rights_findings
from session_ops.errors import PreconditionError, SettingsError, StoreUnavailableError
from session_ops.release import current_release
from session_ops.serve.backend import check_parts
from session_ops.stores.replies import understood
from session_ops.stores.state import describe, info_fields

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from session_ops.migration.run_records import Target
    from session_ops.owned_access import OwnedStore
    from session_ops.records import StoreState
    from session_ops.settings import Settings
    from session_ops.stores.connection import Connection
    from session_ops.stores.control_store import ControlRow

SAMPLE: Final = 200
"""Sessions of each store that are compared."""

SHOWN: Final = (
    "redis_version", "valkey_version", "redis_mode", "role", "uptime_in_seconds", "used_memory", "used_memory_rss",
    "maxmemory", "maxmemory_policy", "aof_enabled", "aof_last_write_status", "evicted_keys", "connected_clients",
    "connected_slaves", "loading",
)  # fmt: skip
"""Of INFO, what goes into the facts."""


class Examination(msgspec.Struct, frozen=True, kw_only=True):
    """What was found, the worst first; what was looked at; what could not be, each with the reason; and facts."""

    findings: list[Finding]
    looked_at: list[str]
    left_out: dict[str, str]
    facts: dict[str, Any]


class Doctor:
    """Examines from this host. `store` is None where Redis alone keeps the sessions."""

    def __init__(self, settings: Settings, connection: Connection, store: OwnedStore | None) -> None:
        self._settings = settings
        self._connection = connection
        self._store = store
        self._address = f"{settings.redis_host}:{settings.redis_port}"
        self._findings: list[Finding] = []
        self._looked: list[str] = []
        self._left: dict[str, str] = {}
        self._facts: dict[str, Any] = {}
        self._ahead: dict[str, float] = {}
        self._control: ControlRow | None = None

    async def examine(self) -> Examination:
        """Look at everything; never raises for a store that is down."""
        self._host()
        if self._store is not None:
            await self._legacy(self._store)
        redis = await self._redis()
        self._note("clock", host_checks.clock_findings(self._ahead))
        if self._store is not None:
            await self._sessions(self._store, redis)
        await self._service()
        order = sorted(self._findings, key=lambda each: each.severity != "error")
        return Examination(findings=order, looked_at=self._looked, left_out=self._left, facts=self._facts)

    def _note(self, what: str, found: Iterable[Finding]) -> None:
        self._findings += found
        self._looked.append(what)

    def _host(self) -> None:
        self._facts |= {
            "version": __version__,
            "release": current_release(),
            "python": platform.python_version(),
            "system": platform.platform(),
            "host": platform.node(),
        }
        try:
            check_parts(self._settings)
        except SettingsError as error:
            self._findings.append(finding("settings-wrong", str(error)))
        self._looked.append("settings")
        self._note("secrets", host_checks.secret_findings(self._settings))
        self._note("disk", host_checks.disk_findings(host_checks.paths_of(self._settings)))

    async def _service(self) -> None:
        if self._settings.sources["SESSION_LISTEN"] == "default":
            self._left["service"] = "SESSION_LISTEN is not set: no service is expected on this host"
            return
        self._note("service", await asyncio.to_thread(lambda: list(host_checks.service_findings(self._settings))))

    async def _legacy(self, store: OwnedStore) -> None:
        state = await store.describe_legacy()
        self._facts["legacy"] = {"state": state.state, "reason": state.reason, **state.details}
        found = list(legacy_checks.connection_findings(state))
        self._note("legacy connection", found)
        if found and found[0].name != "not-prepared":
            for what in ("table", "control row", "hosts", "stage", "audit"):
                self._left[what] = f"the legacy store: {state.reason}"
            return
        if found:
            for what in ("control row", "hosts", "stage", "audit"):
                self._left[what] = "the table is not prepared"
            return
        await self._tried("table", lambda: legacy_checks.table_findings(self._settings, store.database))
        await self._tried("stage", lambda: self._stage(store))
        await self._tried("audit", lambda: self._audit(store))

    async def _stage(self, store: OwnedStore) -> list[Finding]:
        from session_ops.migration.quarantine import Quarantine  # noqa: PLC0415 - only beside a legacy store
        from session_ops.migration.runs import RunStore  # noqa: PLC0415
        from session_ops.migration.stages import Stages  # noqa: PLC0415
        from session_ops.stores.legacy_moves import Moves  # noqa: PLC0415

        sent = time.time()
        control = self._control = await store.control_store.read()
        self._ahead["the legacy store"] = host_checks.ahead_of_here(control.now, sent)
        latency = list(redis_checks.latency_findings("legacy", (time.time() - sent) * 1000))
        reports = await store.control_store.hosts(self._settings.session_lease)
        runs = RunStore(store, Moves(store.database, store.schema, store.control_schema), "doctor")
        stage = await Stages(store.database, store.control_schema, "doctor").read()
        target: Target = stage.target
        found = [
            *latency,
            *legacy_checks.control_findings(control, self._settings.session_lease, target),
            *legacy_checks.host_findings(reports, control, target),
            *legacy_checks.migration_findings(stage, await runs.lock(), await runs.at_work(), await runs.latest()),
        ]
        kept = await Quarantine(store).counts()
        if kept:
            found.append(finding("rows-put-aside", ", ".join(f"{count:,} {reason}" for reason, count in kept.items())))
        self._facts["control"] = {name: getattr(control, name) for name in ("generation", "mode", "redis", "addresses")}
        self._facts["stage"] = {"stage": stage.stage, "target": target.text}
        self._facts["hosts"] = msgspec.to_builtins(reports)
        self._looked += ["legacy latency", "control row", "hosts"]
        return found

    async def _audit(self, store: OwnedStore) -> list[Finding]:
        from session_ops.migration.audit import Audit  # noqa: PLC0415 - only beside a legacy store

        verdict = await Audit(store.database, store.control_schema, "doctor").check()
        self._facts["audit"] = {"lines": verdict.lines, "head": verdict.head.seq}
        return [] if verdict.broken is None else [finding("audit-broken", f"line {verdict.broken}: {verdict.reason}")]

    async def _redis(self) -> StoreState:
        if self._store is None:
            prefix = self._settings.session_generation_prefix
            if not prefix:
                self._findings.append(
                    finding("settings-wrong", "SESSION_GENERATION_PREFIX: not set, without a legacy store")
                )
            state = await describe(self._connection, prefix or None)
        else:
            if self._control is not None:
                await self._store.steps.control()
            state = await self._store.describe_redis()
        self._facts["redis"] = {"state": state.state, "reason": state.reason, **state.details}
        off = self._control is not None and self._control.redis != "on"
        if not off or not redis_checks.reached(state):
            self._note("redis connection", redis_checks.connection_findings(state, self._address))
        if not redis_checks.reached(state):
            for what in ("redis latency, memory and persistence", "rights"):
                self._left[what] = f"Redis: {state.reason}"
            return state
        await self._tried("rights", lambda: rights_findings(self._connection, self._settings.redis_username))
        await self._tried("redis latency, memory and persistence", self._info)
        return state

    async def _info(self) -> list[Finding]:
        sent = time.time()
        answer = await self._connection.call("TIME")
        # The connection is up by now, so that this is the link and the server alone
        found = list(redis_checks.latency_findings("redis", (time.time() - sent) * 1000))
        with understood(change=False):
            seconds, microseconds = map(int, answer)
        self._ahead["Redis"] = host_checks.ahead_of_here(seconds * 1000 + microseconds / 1000, sent)
        info = info_fields(await self._connection.call("INFO"))
        self._facts["redis"] |= {name: info[name] for name in SHOWN if name in info}
        return [*found, *redis_checks.info_findings(info, self._address)]

    async def _sessions(self, store: OwnedStore, redis: StoreState) -> None:
        from session_ops.migration.validation import Validator  # noqa: PLC0415 - only beside a legacy store
        from session_ops.stores.legacy_moves import Moves  # noqa: PLC0415

        control = self._control
        if control is None or control.mode == "final" or control.redis != "on" or redis.state != "up":
            final = control is not None and control.mode == "final"
            self._left["sessions"] = "Redis alone has them" if final else "both stores must serve for that"
            return

        async def compared() -> list[Finding]:
            moves = Moves(store.database, store.schema, store.control_schema)
            settings = self._settings
            validator = Validator(store, moves, lease=settings.session_lease, partitions=settings.session_partitions)
            done = await validator.run("sample", sample=SAMPLE)
            self._facts["sessions"] = {"rows": done.rows, "records": done.records, "mismatches": done.kinds}
            by_hand = Counter(each.kind for each in done.mismatches if each.by_hand)
            ours = Counter(each.kind for each in done.mismatches if not each.by_hand)
            return [
                finding(name, f"of {done.rows} rows and {done.records} records: "
                        + ", ".join(f"{count} {kind}" for kind, count in kinds.items()))
                for name, kinds in (("stores-differ", by_hand), ("mirror-behind", ours)) if kinds
            ]  # fmt: skip

        await self._tried("sessions", compared)

    async def _tried(self, what: str, look: Callable[[], Awaitable[Iterable[Finding]]]) -> None:
        try:
            self._note(what, await look())
        except (StoreUnavailableError, PreconditionError) as error:
            self._left[what] = str(error)


async def examine(settings: Settings) -> Examination:
    """Examine with connections of its own."""
    from session_ops.redis_access import connect  # noqa: PLC0415

    connection = connect(settings)
    store: OwnedStore | None = None
    try:
        if settings.legacy_database_url:
            from session_ops.owned_access import make_owned  # noqa: PLC0415 - as in serve/backend.py

            store = make_owned(settings, connection, lambda: settings.flag)
        return await Doctor(settings, connection, store).examine()
    finally:
        if store is not None:
            await store.close()
        await connection.close()
