"""Random histories: what one object told is accepted, one wrong call is found, and plain search comes to the same."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from session_ops.errors import OutcomeUnknownError, SessionOpsError, StoreUnavailableError
from session_ops.records import NewSession
from tests.linearizability import Call, History, Operation, Recorded, Rules, assert_linearizable, check
from tests.linearizability.plainly import has_an_order
from tests.linearizability.simulation import Fate, Fault, Plan, play
from tests.unit.fake_repository import FakeRepository

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

STRICT = Rules()
NAMES = st.sampled_from(["x", "y"])
SOME = st.dictionaries(NAMES, st.integers(0, 2), max_size=2)
CALLS = st.one_of(
    st.builds(Call.get),
    st.builds(Call.get),
    st.builds(Call.update, SOME, remove=st.lists(NAMES, max_size=1)),
    st.builds(Call.update, SOME),
    st.builds(Call.replace, SOME),
    st.builds(Call.touch),
    st.builds(Call.delete),
    st.builds(Call.create, SOME),
)
FATES: st.SearchStrategy[Fate] = st.sampled_from(["answered", "answered", "answered", "unknown", "dead", "refused"])
FAULTS: st.SearchStrategy[Fault] = st.sampled_from(
    ["none", "none", "loses", "reads old", "revives", "writes all", "does what it refuses"]
)


@st.composite
def plans(draw: st.DrawFn, *, least: int, most: int, faults: st.SearchStrategy[Fault]) -> list[Plan]:
    """A create and then anything, so many calls; those of an unknown outcome may arrive after their answer."""
    made = [Plan(Call.create(draw(SOME)), 0, draw(st.sampled_from([0.1, 4.1])), draw(st.sampled_from([0.2, 5.0])))]
    for number in range(1, draw(st.integers(least, most))):
        call, fate = draw(CALLS), draw(FATES)
        starts = draw(st.integers(1, 20))
        arrives: float = starts + draw(st.integers(1, 4))
        answers = arrives + draw(st.integers(-2, 0) if fate == "unknown" else st.integers(0, 4))
        guarded = call.kind in {"replace", "delete"} and draw(st.booleans())
        tick = number / 100  # no two things happen at once
        begins, arrives, ends = starts + tick, arrives + tick, max(starts, answers) + tick * 1.1
        made.append(Plan(call, begins, arrives, ends, fate, guarded, draw(faults)))
    return made


@st.composite
def told_wrongly(draw: st.DrawFn) -> list[Operation]:
    """A short history in which some answers may be those of other calls."""
    history = play(draw(plans(least=4, most=6, faults=FAULTS)), tells_revisions=draw(st.booleans()))
    answered = [one for one in history if one.outcome == "answered"]
    for one in answered:
        if draw(st.booleans()):
            other = draw(st.sampled_from(answered))
            one.data, one.revision = other.data, draw(st.sampled_from([one.revision, other.revision]))
    return history


@given(plans(least=2, most=30, faults=st.just("none")), st.booleans())
@settings(max_examples=200, deadline=None)
def test_what_one_object_told_is_accepted(planned: list[Plan], tells: bool) -> None:
    history = play(planned, tells_revisions=tells)

    violation = check(history)

    assert violation is None, str(violation)


@pytest.mark.parametrize("rules", [STRICT, Rules(repeated_ends=True), Rules(dirty_reads=True)], ids=str)
def test_the_search_agrees_with_trying_every_order(rules: Rules) -> None:
    found: Counter[bool] = Counter()

    @given(told_wrongly())
    @settings(max_examples=300, deadline=None)
    def agree(history: list[Operation]) -> None:
        violation = check(history, rules)
        found[violation is None] += 1
        assert (violation is None) == has_an_order(history, rules), str(violation)
        if violation is not None:
            _is_shortest(history, violation.operation, rules)

    agree()

    assert min(found[True], found[False]) > 10, found


def _is_shortest(history: list[Operation], last: Operation, rules: Rules) -> None:
    """Up to the answer that is blamed there is no order, and before it there is one."""
    assert not has_an_order(_until(history, last, including=True), rules)
    assert has_an_order(_until(history, last, including=False), rules)


def _until(history: list[Operation], last: Operation, *, including: bool) -> list[Operation]:
    """The history as it was known when the last answer came, or just before."""
    prefix = []
    end = last.finished or 0.0
    for one in history:
        known = one.finished is not None and (one.finished <= end if including else one.finished < end)
        if one.started > end:
            continue
        running = Operation(call=one.call, session_id="s", started=one.started)
        prefix.append(one if known or one.outcome == "refused" else running)
    return prefix


def crowd(seed: int, count: int, clients: int, fault: Fault = "none") -> list[Plan]:
    """Many clients, each with one call at a time; one call in ten has an unknown outcome. In the end one looks."""
    draw = random.Random(seed)  # noqa: S311 - the same history each time
    made = [Plan(Call.create({"first": 0}), 0, 0.1, 0.2)]
    free = [1.0 + number / 100 for number in range(clients)]
    faulty = count // 2 if fault != "none" else -1
    for number in range(count):
        client = free.index(min(free))
        starts = free[client]
        arrives, answers = sorted(starts + draw.random() * 5 for _ in range(2))
        free[client] = answers + draw.random() / 10
        call = Call.get() if draw.random() < 0.4 else Call.update({f"a{number % 40}": number})
        fate: Fate = "answered"
        if draw.random() < 0.1:
            fate = draw.choice(["unknown", "dead", "refused"])
            arrives += draw.random() * 10 if fate == "unknown" else 0
        wrong: Fault = "none"
        if number == faulty:
            call = Call.get() if fault == "reads old" else Call.update({"own": number})
            fate = "refused" if fault == "does what it refuses" else "answered"
            wrong, arrives, answers = fault, starts + 4, starts + 5
        made.append(Plan(call, starts, arrives, answers, fate, fault=wrong))
    end = max(plan.answers for plan in made) + 20
    return [*made, Plan(Call.get(), end, end + 1, end + 2)]


@pytest.mark.parametrize("tells", [True, False], ids=["with revisions", "without revisions"])
@pytest.mark.parametrize("rules", [STRICT, Rules(dirty_reads=True)], ids=["strict", "dirty reads"])
def test_hundreds_of_calls_of_a_dozen_clients_are_checked_without_going_astray(tells: bool, rules: Rules) -> None:
    for seed in range(5):
        history = play(crowd(seed, 400, 12), tells_revisions=tells)

        assert check(history, rules, limit=3 * len(history)) is None


@pytest.mark.parametrize(
    ("fault", "kind"),
    [("loses", "lost"), ("reads old", "stale"), ("writes all", "lost"), ("does what it refuses", "phantom")],
)
@pytest.mark.parametrize("seed", range(2))
def test_one_wrong_call_among_hundreds_is_found(seed: int, fault: Fault, kind: str) -> None:
    history = play(crowd(seed, 300, 12, fault))

    violation = check(history)

    assert violation is not None
    assert violation.kind == kind, str(violation)


def test_a_repository_behind_a_link_that_breaks_is_accepted() -> None:
    draw = random.Random(7)  # noqa: S311 - the same calls each time
    history = History()
    store = FakeRepository()

    async def client(name: str) -> None:
        repository = Recorded(_Link(store, draw), history, by=name)
        for number in range(25):
            value = {f"{name}{number}": number}
            calls: list[Callable[[], Awaitable[Any]]] = [
                partial(repository.get, "s"),
                partial(repository.update, "s", changes=value),
                partial(repository.change, "s", changes=value),
                partial(repository.replace, "s", data=value),
                partial(repository.touch, "s"),
            ]
            with suppress(SessionOpsError, ConnectionResetError):
                await draw.choice(calls)()

    async def run() -> None:
        await Recorded(store, history).create(NewSession(id="s", user_id="ann"))
        await asyncio.gather(*[client(f"c{number}") for number in range(8)])
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})
        await Recorded(store, history).get("s")

    asyncio.run(run())

    outcomes = Counter(one.outcome for one in history.operations("s"))
    assert min(outcomes["unknown"], outcomes["refused"], outcomes["answered"]) > 10, outcomes
    assert_linearizable(history)


class _Link:
    """Passes calls on, sooner or later, and breaks before they arrive, after they have, or on their way."""

    def __init__(self, repository: FakeRepository, draw: random.Random) -> None:
        self._repository, self._draw = repository, draw
        self._late: set[asyncio.Task[Any]] = set()

    def __getattr__(self, name: str) -> Any:
        async def call(*arguments: Any, **named: Any) -> Any:
            await self._wait()
            fate = self._draw.random()
            if fate < 0.1:
                raise StoreUnavailableError("redis", "down")
            arriving = asyncio.create_task(self._arrive(name, *arguments, **named))
            if fate < 0.2:
                self._late.add(arriving)
                raise OutcomeUnknownError("redis", "broken")
            answer = await arriving
            await self._wait()
            if fate < 0.3:
                raise ConnectionResetError
            return answer

        return call

    async def _arrive(self, name: str, *arguments: Any, **named: Any) -> Any:
        await self._wait()
        return await getattr(self._repository, name)(*arguments, **named)

    async def _wait(self) -> None:
        for _ in range(self._draw.randrange(6)):
            await asyncio.sleep(0)
