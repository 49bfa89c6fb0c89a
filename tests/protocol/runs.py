"""Searches run side by side in processes of their own, each with the guards it is to do without."""

from __future__ import annotations

import gc
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.protocol.guards import without
from tests.protocol.search import Search

if TYPE_CHECKING:
    from tests.protocol.mutations import Mutation
    from tests.protocol.scenarios import Scenario
    from tests.protocol.search import Result

PROCESSES = 2


def processes(number: int = PROCESSES) -> ProcessPoolExecutor:
    """Processes to search in. States make no circles of references, so looking for some is a fifth of the time lost."""
    return ProcessPoolExecutor(number, initializer=gc.disable)


def search(scenario: Scenario) -> Result:
    """Search a scenario with all guards. A violation comes with the steps that lead to it."""
    began = time.monotonic()
    result = Search(*scenario).run()
    if result.error:
        result = Search(*scenario, traces=True).run()
    return replace(result, seconds=time.monotonic() - began)


def mutate(mutation: Mutation) -> tuple[Result, Result]:
    """Search a mutation's scenario without its guard, and with it."""
    with without(mutation.guard):
        mutant = Search(*mutation.scenario, traces=True).run()
    return mutant, search(mutation.scenario)
