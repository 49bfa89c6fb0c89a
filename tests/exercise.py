"""Every operation of a repository once, with its outcome: for tests of what operations need and cost as a whole."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from session_ops.errors import SessionOpsError
from session_ops.records import NewSession, StoreState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from session_ops.stores.redis import RedisSessionRepository


async def exercise(
    repository: RedisSessionRepository, observe: Callable[[str, Awaitable[Any]], Awaitable[Any]]
) -> None:
    """Call every operation through `observe(name, call)`, which returns what the call did."""
    made = []
    for number, session_id in enumerate("abcdef"):
        agent = "helper" if number % 2 else None
        new = NewSession(id=session_id, user_id="ann", agent_id=agent, data={"n": number, "m": "x" * 20})
        made.append(await observe("create", repository.create(new)))
    await observe("create again", repository.create(NewSession(id="a", user_id="ann")))
    await observe("get", repository.get("a"))
    await observe("get unknown", repository.get("unknown"))
    await observe("get_many", repository.get_many(["a", "b", "unknown"]))
    await observe("update", repository.update("a", changes={"n": 9}, remove=["m"]))
    await observe("change", repository.change("a", changes={"n": 10}))
    await observe("replace", repository.replace("a", data={"o": 1}))
    await observe("touch", repository.touch("b"))
    for filters in ({}, {"user_id": "ann"}, {"agent_id": "helper"}, {"user_id": "ann", "agent_id": "helper"}):
        page = await observe(f"list {filters}", repository.list_sessions(limit=2, order="oldest", **filters))
        if page is not None and page.cursor is not None:
            await observe("list on", repository.list_sessions(limit=2, cursor=page.cursor, order="oldest", **filters))
    page = await observe("list newest", repository.list_sessions(limit=2))
    await observe("delete", repository.delete("c"))
    if page is not None and page.cursor is not None:
        await observe("delete", repository.delete(page.sessions[-1].id))
        await observe("list on after the last one ended", repository.list_sessions(limit=2, cursor=page.cursor))
    await observe("count_active", repository.count_active())
    await observe("statistics", repository.statistics())
    ended = await observe("clean", repository.clean(10))
    await observe("told", repository.told(ended or []))
    await observe("lead", repository.lead("cleanup", "me", 1))
    await observe("delete_user", repository.delete_user("ann"))
    await observe("open_generation", repository.open_generation())
    await observe("describe", repository.describe())


class Outcomes:
    """An observer that notes every outcome, errors included."""

    def __init__(self) -> None:
        self.noted: list[tuple[str, str]] = []

    async def __call__(self, name: str, call: Awaitable[Any]) -> Any:
        """Note what the call did: the kind of its answer, or its error."""
        try:
            answer = await asyncio.wait_for(call, 5)
        except SessionOpsError as error:
            self.noted.append((name, f"{type(error).__name__}: {error}"))
            return None
        state = (
            {key: value is not None for key, value in answer.details.items()} if isinstance(answer, StoreState) else ""
        )
        self.noted.append((name, f"{type(answer).__name__} {state}"))
        return answer
