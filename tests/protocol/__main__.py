"""`make model`: search every scenario to the end, take every guard away. Exits 1 on a violation or a needless guard."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from tests.protocol.mutations import MUTATIONS, Mutation
from tests.protocol.runs import PROCESSES, mutate, processes, search
from tests.protocol.scenarios import Scenario, deep_scenarios, default_scenarios

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import ProcessPoolExecutor


def check_scenarios(pool: ProcessPoolExecutor, chosen: Sequence[Scenario]) -> int:
    """Print a line per scenario; the number of those with a violation."""
    bad = states = 0
    began = time.monotonic()
    for result in pool.map(search, chosen):
        states += result.states
        bad += bool(result.error)
        print(
            f"{result.name:<52}{result.states:>9} states{result.steps:>10} steps  depth {result.depth:>2}  "
            f"alone {result.alone:>2} {result.seconds:6.1f} s  {result.error or 'ok'}",
            flush=True,
        )
        for line in result.trace:
            print("      " + line)
    print(
        f"{len(chosen)} scenarios searched to the end: {states} states, {bad} with a violation, "
        f"{time.monotonic() - began:.1f} s"
    )
    return bad


def check_mutations(pool: ProcessPoolExecutor, chosen: Sequence[Mutation]) -> int:
    """Print a counterexample per guard; the number of guards that are not needed, or not as soon as is said."""
    useless = 0
    for mutation, (mutant, guarded) in zip(chosen, pool.map(mutate, chosen), strict=True):
        needed = bool(mutant.error) and not guarded.error
        useless += not (needed and len(mutant.trace) == mutation.length)
        print(f"WITHOUT  {mutation.guard}   [{mutant.name}]")
        found = f"after {len(mutant.trace)} steps: {mutant.error}" if needed else "NOTHING HAPPENS"
        print(f"   {found}   (with it: {guarded.states} states, {guarded.error or 'ok'})")
        for line in mutant.trace:
            print("      " + line)
    guards = len({mutation.guard for mutation in chosen})
    print(f"{guards} guards taken away in {len(chosen)} scenarios, {useless} times for nothing")
    return useless


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.protocol", description=__doc__)
    parser.add_argument("--deep", action="store_true", help="larger scenarios as well (a quarter of an hour)")
    parser.add_argument("--only", default="", help="only the scenarios and guards whose name contains this")
    parser.add_argument("--jobs", type=int, default=PROCESSES, help="worker processes")
    arguments = parser.parse_args()
    chosen = default_scenarios() + (deep_scenarios() if arguments.deep else [])
    with processes(arguments.jobs) as pool:
        bad = check_scenarios(pool, [one for one in chosen if arguments.only in one.name])
        bad += check_mutations(pool, [one for one in MUTATIONS if arguments.only in one.guard])
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
