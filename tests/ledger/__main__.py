"""`python -m tests.ledger`: load service hosts for a while, and say whether a session was lost, stale or resurrected.

Exit codes: 0 all is well, 1 something was lost, stale, resurrected or not seen, 2 usage.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path

from tests.ledger.ledger import Ledger
from tests.ledger.report import Report
from tests.linearizability import Rules


def main() -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.ledger", description=__doc__)
    parser.add_argument("--host", action="append", required=True, metavar="URL", help="a service host; repeat for more")
    parser.add_argument("--token", required=True, help="a token with all scopes, or @FILE that holds it")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=200.0, help="requests per second")
    parser.add_argument("--repeated-ends", action="store_true", help="a second delete may be acknowledged as well")
    parser.add_argument(
        "--dirty-reads", action="store_true", help="what was not acknowledged may show and vanish again"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there, too")
    given = parser.parse_args()
    if given.token.startswith("@"):
        given.token = Path(given.token[1:]).read_text().strip()
    report = asyncio.run(run(given))
    print(report.table())
    if given.json:
        given.json.write_text(json.dumps(report.figures(), indent=2) + "\n")
    return 0 if report.ok else 1


async def run(given: argparse.Namespace) -> Report:
    """One run; an interrupt ends it early, and it still reads everything back."""
    rules = Rules(repeated_ends=given.repeated_ends, dirty_reads=given.dirty_reads)
    ledger = Ledger(given.host, given.token, rate=given.rate, seed=given.seed, rules=rules)
    interrupted = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupted.set)
    await ledger.start()
    await ledger.hold(given.seconds, interrupted)
    await ledger.stop()
    return ledger.report()


if __name__ == "__main__":
    sys.exit(main())
