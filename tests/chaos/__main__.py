"""`python -m tests.chaos`: faults on the lab's fleet, under the ledger.

  round   every fault once, each under a ledger of its own; then what may happen to an operator, under one
  soak    faults at random for some minutes, under one ledger, flags flipping all the while
  try     inject one fault, see it take effect, heal it; no ledger

Exit codes: 0 all held, 1 something did not, 2 usage. Figures go to out/chaos.json or out/soak.json.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import time
from collections import deque
from typing import TYPE_CHECKING

from tests.bench.report import OUT
from tests.chaos.agreement import agree
from tests.chaos.faults import FAULTS, Fault
from tests.chaos.flags import flipping
from tests.chaos.fleet import Fleet, FleetError
from tests.chaos.report import Run, tell
from tests.chaos.scenario import FINAL, applicable, endure
from tests.chaos.upsets import UPSETS, Scene, Upset, bring, suffer
from tests.ledger.ledger import Ledger
from tests.linearizability import Rules

if TYPE_CHECKING:
    from collections.abc import Coroutine

RATE = 100.0
"""Requests per second: enough for every kind of collision, and the machine has the fleet to run as well."""

BUMPS, BUMPS_WITHIN = 3, 600.0
"""After three bumps within 10 minutes the hosts leave it to a person (ownership.md, section 8)."""


def main() -> int:
    """Parse and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("round", "soak", "try"):
        each = verbs.add_parser(verb)
        each.add_argument("--seed", type=int, default=1)
        # What happens to operators is no fault of a soak, whose flags nobody's playbook expects to flip.
        names = [each.name for each in (*FAULTS, *(UPSETS if verb == "round" else ()))]
        each.add_argument("--fault", action="append", choices=names, metavar="NAME")
        each.add_argument("--rate", type=float, default=RATE)
        each.add_argument("--hold", type=float, default=5.0, help="seconds; of a soak the longest")
        each.add_argument("--slack", type=float, default=1.0, help="limits of silence times this, on a busy machine")
        each.add_argument("--minutes", type=float, default=5.0, help="of a soak")
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    given.upsets = [each for each in UPSETS if not given.fault or each.name in given.fault]
    given.faults = [each for each in FAULTS if not given.fault or each.name in given.fault]
    try:
        return asyncio.run(ended_in_order({"round": once_each, "soak": soak, "try": attempt}[given.verb](given)))
    except asyncio.CancelledError:
        print("chaos: interrupted; what was injected is healed", file=sys.stderr)
        return 1
    except FleetError as error:
        print(f"chaos: {error}", file=sys.stderr)
        return 1


async def ended_in_order(work: Coroutine[None, None, int]) -> int:
    """Let SIGTERM end the work as Ctrl-C does: with the fault on it healed. A shell's background job has no Ctrl-C."""
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await work
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


async def once_each(given: argparse.Namespace) -> int:
    """Every fault once. A fleet that does not recover from one ends the round: the next would prove nothing."""
    fleet, chance = Fleet(), random.Random(given.seed)  # noqa: S311  (which host, no secret)
    run = Run()
    for fault in given.faults:
        _, state = await fleet.healthy(30)
        if not applicable(fault, state.mode):
            print(f"{fault.name}: not in mode {FINAL}, in which nothing brings back what it destroys", flush=True)
            continue
        await forget_bumps(fleet, state.mode)
        ledger = Ledger(fleet.urls, fleet.token, rate=given.rate, seed=given.seed, rules=rules(state.mode))
        await ledger.start()
        recovered = True
        try:
            await ledger.hold(2)
            run.trials.append(await endure(fleet, ledger, fault, chance, hold=given.hold, slack=given.slack))
            print(f"{fault.name}: {'; '.join(run.trials[-1].problems()) or 'ok'}", flush=True)
            await ledger.hold(2)
        except FleetError as error:
            recovered = False
            run.broken.append(str(error))
        await settle(fleet, ledger, state.mode, run)
        if not recovered:
            break
    if given.upsets and not run.broken:
        await upset(given, fleet, run)
    fleet.close()
    return tell("chaos", given.seed, run)


async def upset(given: argparse.Namespace, fleet: Fleet, run: Run) -> None:
    """What may happen to an operator, under one ledger; afterwards the fleet is at 100 % again."""
    _, state = await fleet.healthy(30)
    if state.mode == FINAL:
        print("nothing moves in mode final: what happens to those who move sessions is left out", flush=True)
        return
    scene, at = Scene(fleet, OUT / "chaos"), 100
    ledger = Ledger(fleet.urls, fleet.token, rate=given.rate, seed=given.seed, rules=rules(state.mode))
    await ledger.start()
    chosen: list[Upset] = given.upsets
    try:
        await scene.equip()
        for each in chosen:
            ledger.mark(f"to {each.at} %")
            await bring(scene, at, each.at)
            run.suffered.append(await suffer(scene, ledger, each, slack=given.slack))
            at = each.leaves
            print(f"{each.name}: {'; '.join(run.suffered[-1].problems()) or 'ok'}", flush=True)
        ledger.mark("to 100 %")
        await bring(scene, at, 100)
    except FleetError as error:
        run.broken.append(str(error))
    await settle(fleet, ledger, state.mode, run)


async def soak(given: argparse.Namespace) -> int:
    """Faults that the seed picks, one after the other, until the time is over."""
    fleet, chance = Fleet(), random.Random(given.seed)  # noqa: S311  (which fault, no secret)
    _, state = await fleet.healthy(30)
    run = Run()
    bumps: deque[float] = deque(maxlen=BUMPS)
    possible = [fault for fault in given.faults if applicable(fault, state.mode)]
    await forget_bumps(fleet, state.mode)
    ledger = Ledger(fleet.urls, fleet.token, rate=given.rate, seed=given.seed, rules=rules(state.mode))
    end = time.monotonic() + 60 * given.minutes
    await ledger.start()
    try:
        async with flipping(fleet, random.Random(given.seed + 1), every=3.0) as flips:  # noqa: S311  (as above)
            while time.monotonic() < end:
                candidates = [each for each in possible if may_bump(bumps, each)]
                if not candidates:
                    await ledger.hold(10)
                    continue
                fault = chance.choice(candidates)
                hold = chance.uniform(2, given.hold)
                run.trials.append(await endure(fleet, ledger, fault, chance, hold=hold, slack=given.slack))
                bumps.extend([time.monotonic()] * (fault.bumps if state.mode != FINAL else 0))
                print(f"{fault.name}, {hold:.0f} s: {'; '.join(run.trials[-1].problems()) or 'ok'}", flush=True)
                await ledger.hold(chance.uniform(1, 5))
            print(f"flags flipped {flips.done} times, {flips.refused} times with the host away", flush=True)
    except FleetError as error:
        run.broken.append(str(error))
    await settle(fleet, ledger, state.mode, run)
    fleet.close()
    return tell("soak", given.seed, run)


async def settle(fleet: Fleet, ledger: Ledger, mode: str | None, run: Run) -> None:
    """End a ledger; where there are two stores, see whether they agree behind it."""
    await ledger.stop()
    report = ledger.report()
    run.reports.append(report)
    if mode == FINAL:
        return
    try:
        agreement = await agree(fleet)
    except FleetError as error:
        run.broken.append(f"I4 is not checked: {error}")
    else:
        run.agreements.append(agreement)
        run.broken += agreement.problems(sum(report.whole["failed"].values()))


async def attempt(given: argparse.Namespace) -> int:
    """Inject, look, heal, wait: whether each fault does what it says on this lab."""
    fleet, chance = Fleet(), random.Random(given.seed)  # noqa: S311  (which host, no secret)
    _, state = await fleet.healthy(30)
    status = 0
    for fault in given.faults:
        if not applicable(fault, state.mode):
            continue
        await forget_bumps(fleet, state.mode)
        ledger = Ledger(fleet.urls, fleet.token, rate=20, seed=given.seed, rules=rules(state.mode))
        await ledger.start()
        began = time.monotonic()
        try:
            trial = await endure(fleet, ledger, fault, chance, hold=1)
            told = "; ".join(trial.broken) or "took effect"
        except FleetError as error:
            trial, told = None, str(error)
        status |= trial is None or bool(trial.broken)
        await ledger.stop()
        print(f"{fault.name}: {told}, {time.monotonic() - began:.1f} s", flush=True)
    fleet.close()
    return status


def rules(mode: str | None) -> Rules:
    """What the protocol accepts (ownership.md, section 12): a delete is acknowledged to everybody who finds the
    tombstone, and with the mirror on a change that Redis had and lost may have been read before it was acknowledged.
    """
    return Rules(repeated_ends=True, dirty_reads=mode != FINAL)


def may_bump(bumps: deque[float], fault: Fault) -> bool:
    """Whether the hosts may still bump as often as the fault makes them: never more than three within 10 minutes."""
    recent = sum(at > time.monotonic() - BUMPS_WITHIN for at in bumps)
    return recent + fault.bumps <= BUMPS


async def forget_bumps(fleet: Fleet, mode: str | None) -> None:
    """In a round the faults come faster than the hosts bump by themselves: be the person that they wait for. So also
    before a soak, which counts only its own.
    """
    if mode != FINAL:
        statement = "UPDATE session_control SET bumped_at = '[]'"
        await fleet.run(fleet.hosts("legacy")[0], f'runuser -u postgres -- psql -q application -c "{statement}"')


if __name__ == "__main__":
    sys.exit(main())
