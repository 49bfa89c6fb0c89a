"""The protocol holds in every state that its default bounds let it reach, and each of its guards is needed."""

from __future__ import annotations

import ast
import gc
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.protocol.mutations import MUTATIONS, Mutation
from tests.protocol.runs import mutate, search
from tests.protocol.scenarios import Scenario, default_scenarios

if TYPE_CHECKING:
    from collections.abc import Iterator

STATES = {
    "in L: write:a write:b read": 11_720,
    "in R: write:a write:b read": 8_320,
    "back: write:a write:b read": 11_720,
    "in L: write:a write:b move> move<": 37_238,
    "in R: write:a write:b move> move<": 30_647,
    "back: write:a write:b move> move<": 37_238,
    "in L: write:a delete move> move<": 32_999,
    "in L: write:a delete read move<": 103_855,
    "in R: write:a delete read move<": 86_071,
    "back: write:a delete read move<": 103_855,
    "new: create write:a delete move<": 13_682,
    "in L: touch:t read cleanup tick": 7_165,
    "in R: touch:t read cleanup tick": 5_180,
    "back: touch:t read cleanup tick": 7_305,
    "in L: touch:t move> move< tick": 3_688,
    "in R: touch:t move> move< tick": 2_826,
    "back: touch:t move> move< tick": 3_729,
    "in L: delete move> cleanup tick": 1_726,
    "in R: delete move> cleanup tick": 1_118,
    "back: delete move> cleanup tick": 1_764,
    "in L: write:a read bump bump cancel": 46_120,
    "in R: write:a read bump bump cancel": 35_473,
    "in R: write:a delete bump bump cancel": 59_094,
    "in L: write:a write:b flush bump": 10_497,
    "in R: write:a write:b flush bump": 8_902,
    "back: write:a write:b flush bump": 10_497,
    "in L: write:a delete flush bump": 10_043,
    "back: write:a delete flush bump": 10_043,
    "in R: write:a delete read flush bump": 335_226,
    "in R: delete read flush bump bump": 106_198,
    "in L: write:a write:b sync rewind bump": 39_030,
    "in R: write:a write:b sync rewind bump": 33_750,
    "in L: delete read sync rewind bump": 23_056,
    "in R: delete read sync rewind bump": 20_613,
    "in R: write:a sync rewind finalize": 424,
    "in L: write:a write:b sync promote bump": 31_745,
    "in R: write:a write:b sync promote bump": 26_582,
    "in L: delete read sync promote bump": 19_156,
    "in R: delete read sync promote bump": 16_676,
    "in L: write:a write:b fence bump": 26_241,
    "in R: write:a write:b fence bump": 20_913,
    "in L: write:a delete fence bump": 25_163,
    "in R: write:a delete fence bump": 20_736,
    "in R: delete read fence bump cancel": 22_799,
    "new: create write:a bump bump cancel": 9_966,
    "new: create write:a fence bump": 3_449,
    "new: create delete read fence": 4_971,
    "new: create write:a flush bump": 1_531,
    "new: create write:a sync rewind bump": 4_798,
    "in L: touch:t cleanup bump tick": 974,
    "in R: touch:t cleanup bump tick": 1_128,
    "in L: write:a read move> finalize": 61_332,
    "in R: write:a read move> finalize": 39_714,
    "back: write:a read move> finalize": 61_332,
    "in R: write:a delete move> finalize": 85_099,
    "new: create read delete finalize": 21_591,
    "new: create write:a finalize bump": 6_001,
    "in R: write:a read finalize bump cancel": 35_292,
    "in R: write:a move> finalize flush bump": 40_131,
}
"""The reachable states of every default scenario: a change of the model that moves one of them changes the protocol."""


SLOWEST_ALONE = "new: create read delete finalize"
"""A scenario in which an operation that runs alone takes as many steps as it ever does."""


@pytest.fixture(autouse=True)
def without_garbage_collection() -> Iterator[None]:
    """States make no circles of references, so looking for some is a fifth of the time lost."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("scenario", default_scenarios(), ids=lambda scenario: scenario.name)
def test_a_scenario_has_no_violation_in_any_state(scenario: Scenario) -> None:
    result = search(scenario)

    assert result.error is None, "\n".join([str(result.error), *result.trace])
    assert result.states == STATES[scenario.name]
    assert result.alone <= 15, "an operation that runs alone ends within fifteen steps"
    assert result.alone == 15 or scenario.name != SLOWEST_ALONE


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: f"{mutation.guard} [{mutation.scenario.name}]")
def test_without_a_guard_there_is_a_counterexample(mutation: Mutation) -> None:
    mutant, guarded = mutate(mutation)

    assert guarded.error is None
    assert mutant.error is not None
    assert len(mutant.trace) == mutation.length, mutant.trace


def test_every_guard_of_the_model_is_taken_away_by_a_mutation() -> None:
    calls = [
        node
        for file in Path(__file__).parent.glob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "guard"
    ]
    named = {
        part.value
        for call in calls
        for part in ast.walk(call.args[0])
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    }

    assert named == {mutation.guard for mutation in MUTATIONS}
