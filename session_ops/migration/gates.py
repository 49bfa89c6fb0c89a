"""The gates of a step: what must be so before any host's flag is changed. Each looks, says why not, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import msgspec

from session_ops.migration.outlook import Outlook

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from session_ops.migration.outlook import Plan
    from session_ops.migration.run_records import Target
    from session_ops.owned_access import OwnedStore
    from session_ops.settings import Settings
    from session_ops.stores.control_store import ControlRow, HostRow

MOST_BROKEN: Final = 1_000
"""Rows that cannot move, above which the mover would stop."""


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """A gate; `reason`: what is in the way and what to do, None where nothing is."""

    name: str
    reason: str | None


class Gates:
    """Looks at the stores and at what the hosts report. Changes nothing."""

    def __init__(self, settings: Settings, store: OwnedStore, *, bumps: bool = False) -> None:
        """`bumps`: Redis may be off, since a bump to it comes before the step."""
        self._settings = settings
        self._store = store
        self._bumps = bumps

    async def pass_through(
        self, target: Target, *, hosts: Collection[str] = (), most_broken: int = MOST_BROKEN, plan: bool = True
    ) -> tuple[list[Gate], Plan | None]:
        """Every gate for `target`. `hosts`: the names of those that the inventory has, none: whatever reports.

        `plan`: look at every row for memory and for what cannot move; without it these two are left out.
        """
        control = await self._store.control_store.read()
        reports = await self._store.control_store.hosts(self._settings.session_lease)
        await self._store.steps.control()
        gates = [
            Gate(name="control row", reason=control_flaw(control, bumps=self._bumps)),
            Gate(name="redis", reason=await self._redis(control)),
            Gate(name="hosts", reason=hosts_flaw(reports, hosts, control)),
        ]
        if not plan:
            return gates, None
        shown = await Outlook(self._settings, self._store).plan(target)
        return [*gates, Gate(name="memory", reason=memory_flaw(shown)),
                Gate(name="rows", reason=rows_flaw(shown, most_broken))], shown  # fmt: skip

    async def _redis(self, control: ControlRow) -> str | None:
        state = await self._store.describe_redis()
        reached = state.details.get("keys") is not None or state.state == "up"
        if not reached:
            user = self._settings.redis_username or "default"
            return f"Redis does not answer {user} ({state.reason}): `session-ops generation show` looks closer"
        if control.redis == "on" and state.state != "up":
            return f"Redis answers, but {state.reason}: the hosts bump to it by themselves; wait, then run this again"
        return None


def control_flaw(control: ControlRow, *, bumps: bool) -> str | None:
    """What is wrong with the control row."""
    if control.mode != "mirror":
        return f"the mode is {control.mode}: sessions only move in mode mirror"
    if control.closing is not None:
        return "a bump is under way: wait for its end (`session-ops generation show`), then run this again"
    if control.redis == "away":
        return "the hosts have given Redis up: see that it runs; they come back to it by themselves"
    if control.redis == "off" and not bumps:
        return "Redis is off: `session-ops generation bump --execute` begins a generation, then run this again"
    if control.redis == "on" and control.pin is None:
        return "Redis is on and no server is pinned: `session-ops generation bump --execute` begins a generation"
    return None


def hosts_flaw(reports: Sequence[HostRow], names: Collection[str], control: ControlRow) -> str | None:
    """What is wrong with the hosts. A report at all says that a release knows the ownership protocol."""
    return next((reason for _, reason in hosts_flaws(reports, names, control)), None)


def hosts_flaws(
    reports: Sequence[HostRow], names: Collection[str], control: ControlRow
) -> Iterator[tuple[Literal["missing", "silent", "strange", "late", "cut off"], str]]:
    """Everything that is wrong with the hosts, by kind. `names`: those of the inventory; none: not known."""
    live = [row for row in reports if row.live]
    if missing := sorted(set(names) - {row.host for row in live}):
        yield (
            "missing",
            (
                f"{', '.join(missing)} of the inventory does not report to the legacy store: a release that knows"
                " session ownership must serve there (`systemctl status session-service`, playbooks/rollout.yml)"
            ),
        )
    if not live:
        yield "silent", "no host reports to the legacy store: the service must run (playbooks/rollout.yml)"
    if names and (strange := sorted({row.host for row in live} - set(names))):
        yield (
            "strange",
            (
                f"{', '.join(strange)} serves and is not in the inventory: its flag would stay as it is; add it to"
                " session_service, or stop its service"
            ),
        )
    if late := sorted({row.host for row in live if row.generation != control.generation}):
        yield "late", f"{', '.join(late)} does not know generation {control.generation} yet: wait, then run this again"
    bad = sorted({row.host for row in live if row.redis_bad_since is not None}) if control.redis == "on" else []
    if bad:
        yield "cut off", f"{', '.join(bad)} does not reach Redis: see its /readyz and the network between them"


def memory_flaw(plan: Plan) -> str | None:
    """Whether Redis has room for the sessions that would be there."""
    if plan.fits is None:
        return "Redis did not say how much memory it has: `session-ops generation show` looks closer"
    if not plan.fits:
        return (
            f"Redis has no room: about {plan.memory_needed:,} bytes are needed, {plan.used_memory:,} of"
            f" {plan.maxmemory:,} are used; raise redis_maxmemory and run playbooks/rollout.yml first"
        )
    return None


def rows_flaw(plan: Plan, most: int) -> str | None:
    """Whether too many rows cannot move."""
    broken = sum(plan.broken.values())
    if broken <= most:
        return None
    return (
        f"{broken:,} rows cannot move ({', '.join(plan.broken)}), {most:,} may be put aside: put them right"
        " (`session-ops migrate plan` names them) or raise --most-broken"
    )
