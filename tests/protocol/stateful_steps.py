"""A hook around every named step of the protocol: crash before, while or after it is sent, delay it, repeat it."""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from tests.owned import Host

Fate = Literal["before", "during", "after", "delay", "late", "repeat"]
FATES: Final[tuple[Fate, ...]] = ("before", "during", "after", "delay", "late", "repeat")

LEGACY: Final = ("get", "insert", "claim", "write", "touch", "end", "apply", "give", "purge")
REDIS: Final = ("read", "merge", "rewrite", "slide", "kill", "put", "mark")
STEPS: Final = LEGACY + REDIS

REPEATABLE: Final = frozenset({"get", "claim", "apply", "read", "put", "mark"})
"""Steps that may arrive twice, or once more when everything has moved on: section 13, 6."""


class CrashError(BaseException):
    """The process that ran this operation is dead. Nothing catches it, and nothing is tidied up."""


class Plan:
    """What shall happen to the steps of one operation: each of `fates` to the next step of its name, or to
    the step of its number. `taken` are the steps so far.
    """

    def __init__(self, *fates: tuple[str | int, Fate]) -> None:
        self.fates = list(fates)
        self.taken: list[str] = []

    def next(self, name: str) -> Fate | None:
        """The fate of the step that is taken now."""
        self.taken.append(name)
        for fate in self.fates:
            if fate[0] in (name, len(self.taken) - 1):
                self.fates.remove(fate)
                return fate[1]
        return None


current_plan: ContextVar[Plan | None] = ContextVar("current_plan", default=None)


class Hooks:
    """The hooks of a fleet. `pause` (seconds) is how long a step is delayed, and after which one is repeated."""

    def __init__(self, pause: float) -> None:
        self.pause = pause
        self.met: Counter[tuple[str, Fate]] = Counter()
        self._under_way: set[asyncio.Task[Any]] = set()

    def install(self, host: Host) -> None:
        """Hook every step that the host takes."""
        for name in LEGACY:
            self._hook(host.store.steps, name)
        generations = host.store.generations
        make = generations._make

        def hooked(control: Any) -> Any:
            generation = make(control)
            for name in REDIS:
                self._hook(generation, name)
            return generation

        generations._make = hooked

    def _hook(self, steps: Any, name: str) -> None:
        setattr(steps, name, functools.partial(self._step, name, getattr(steps, name)))

    async def _step(self, name: str, take: Callable[..., Awaitable[Any]], *arguments: Any, **named: Any) -> Any:
        plan = current_plan.get()
        fate = plan.next(name) if plan is not None else None
        if fate == "repeat" and name not in REPEATABLE:
            fate = None
        if fate is None:
            return await take(*arguments, **named)
        self.met[name, fate] += 1
        if fate == "before":
            raise CrashError(name)
        if fate == "delay":
            await asyncio.sleep(self.pause)
            return await take(*arguments, **named)
        step = self._begin(_call(take, arguments, named))
        if fate == "during":
            await asyncio.sleep(0)
            raise CrashError(name)
        answer = await asyncio.shield(step)
        if fate == "after":
            raise CrashError(name)
        if fate == "late":
            await asyncio.sleep(self.pause)
        else:
            self._begin(_call(take, arguments, named, after=self.pause))
        return answer

    def _begin(self, step: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(step)
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # whoever sent it is dead

    async def quiesce(self) -> None:
        """Wait for the steps that outlive their operations."""
        while self._under_way:
            await asyncio.wait(self._under_way)


async def _call(
    take: Callable[..., Awaitable[Any]], arguments: tuple[Any, ...], named: dict[str, Any], *, after: float = 0.0
) -> Any:
    if after:
        await asyncio.sleep(after)
    return await take(*arguments, **named)
