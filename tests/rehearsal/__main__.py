"""`python -m tests.rehearsal`: a whole migration on the lab $SESSION_OPS_LAB, there and back, by the playbooks.

An application's table is filled with sessions and prepared; then each step of tests/rehearsal/steps.py is taken while
the ledger's callers go on, who use the application's sessions as well as their own. The service hosts are set up anew
and left with this table: use a lab that nobody else needs (`make rehearsal` makes one and removes it).

Exit codes: 0 all held, 1 something did not, 2 usage. Figures go to out/rehearsal.json, the playbooks' output to
out/rehearsal/.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys

from tests.bench.report import OUT
from tests.chaos.__main__ import ended_in_order
from tests.chaos.fleet import Fleet, FleetError
from tests.fleet import lab
from tests.ledger.ledger import Ledger
from tests.linearizability import Rules
from tests.rehearsal.application import SETTINGS, Application
from tests.rehearsal.report import TARGET, tell
from tests.rehearsal.run import Rehearsal, RehearsalError
from tests.rehearsal.steps import LONG, SHORT, Step


def main() -> int:
    """Parse and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.rehearsal", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--sessions", type=int, default=100_000, help="of the application (100,000)")
    parser.add_argument("--seed", type=int, default=1, help="which sessions are used, and for what")
    parser.add_argument("--short", action="store_true", help="fewer steps, 3,000 sessions, 50 requests/s, wide gates")
    parser.add_argument("--step", action="append", metavar="NAME", help="only these steps; repeat for more")
    parser.add_argument("--watch", type=int, default=5, metavar="S", help="seconds that a gate measures (5)")
    parser.add_argument("--p99", type=int, default=100, metavar="MS", help="limit of what a gate measures (100)")
    parser.add_argument("--rate", type=float, default=100.0, help="requests per second (100)")
    parser.add_argument("--slack", type=float, default=1.0, help="limits of silence times this, on a busy machine")
    given = parser.parse_args()
    given.steps = SHORT if given.short else LONG
    if given.short:
        # On a machine that does other work as well: neither its gates nor its mover wait for a better p99.
        given.sessions, given.rate = min(given.sessions, 3_000), min(given.rate, 50.0)
        given.watch, given.p99 = min(given.watch, 2), 60_000
    if given.step:
        named = {step.name: step for step in LONG + SHORT}
        unknown = [name for name in given.step if name not in named]
        if unknown:
            parser.error(f"no step {unknown[0]!r}; there are: {', '.join(named)}")
        given.steps = [named[name] for name in given.step]
    print(f"seed {given.seed}, {given.sessions:,} sessions", flush=True)
    try:
        return asyncio.run(ended_in_order(rehearse(given, given.steps)))
    except asyncio.CancelledError:
        print("rehearsal: interrupted", file=sys.stderr)
        return 1
    except (FleetError, RehearsalError) as error:
        print(f"rehearsal: {error}", file=sys.stderr)
        return 1


async def rehearse(given: argparse.Namespace, steps: list[Step]) -> int:
    """All of it. A step that fails ends it, and what the ledger has seen until then is told."""
    shutil.rmtree(OUT / TARGET, ignore_errors=True)
    fleet = Fleet()
    application = Application(fleet, given.sessions, given.seed)
    rehearsal = Rehearsal(fleet, application, OUT / TARGET, watch=given.watch, p99=given.p99)
    with lab.inventory_says(**SETTINGS):
        await rehearsal.prepare()
        ledger = Ledger(
            fleet.urls,
            fleet.token,
            rate=given.rate,
            seed=given.seed,
            rules=Rules(repeated_ends=True, dirty_reads=True),
            existing=application.existing(),
        )
        await ledger.start()
        broken: list[str] = []
        try:
            await ledger.hold(3)
            for step in steps:
                await rehearsal.take(step, ledger)
            broken += await rehearsal.quarantined()
        except (FleetError, RehearsalError) as error:
            broken.append(str(error))
        finally:
            await ledger.stop()
        spoilt = await application.changed() - ledger.adopted
    fleet.close()
    return tell(rehearsal.taken, ledger.report(), broken, spoilt, given.slack)


if __name__ == "__main__":
    sys.exit(main())
