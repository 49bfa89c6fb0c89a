"""The ledger: a load on service hosts that remembers every answer, and says whether the sessions still agree with it.

Checks I1 (an acknowledged write is read back, by any host), I2 (a session that ended stays ended) and I3 (the
acknowledged writes of a session form one order).
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from typing import TYPE_CHECKING

from tests.ledger.archive import Archive
from tests.ledger.calls import Calls
from tests.ledger.judge import Judge
from tests.ledger.load import Load
from tests.ledger.phases import Phases
from tests.ledger.readback import ReadBack
from tests.ledger.report import Report
from tests.ledger.wire import Host
from tests.linearizability import Rules

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.ledger.phases import Phase
    from tests.ledger.sessions import Existing

FIRST_PHASE = "before any mark"


class Ledger:
    """Call `start`, any number of times `mark`, and `stop`; then `report` tells. One object is one run."""

    def __init__(
        self,
        hosts: Sequence[str],
        token: str,
        *,
        rate: float = 200.0,
        seed: int = 1,
        rules: Rules | None = None,
        keep: int = 5000,
        patience: float = 60.0,
        timeout: float = 4.0,
        existing: Iterable[Existing] = (),
    ) -> None:
        """`hosts` are addresses like `http://ADDRESS:PORT`; `token` needs all scopes; `rate` in requests per second.

        `keep` sessions at most are read back at the end; those beyond were read back when they retired. `patience`:
        seconds that hosts have at the end to answer. `timeout` of a request in seconds. `existing`: users of before,
        who are used, changed and ended as those are that the ledger makes.
        """
        self._seed = seed
        self._patience = patience
        chance = random.Random(seed)  # noqa: S311  (a load, no secret)
        self._hosts = [Host(url, token, timeout=timeout) for url in hosts]
        self._phases = Phases(FIRST_PHASE, time.monotonic())
        self._judge = Judge(rules or Rules())
        archive = Archive(keep, chance)
        calls = Calls(self._hosts, self._phases, chance)
        self._back = ReadBack(calls, self._judge, archive)
        # Users of another run on the same stores have other names, also where the seed is the same.
        name = f"ledger-{secrets.token_hex(4)}"
        self._load = Load(calls, self._back, archive, chance, rate=rate, name=name, existing=existing)
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to send requests."""
        self._task = asyncio.create_task(self._load.run(self._stopping, self._patience))

    def mark(self, name: str) -> Phase:
        """Something happens now, such as `fault injected: redis killed`: the figures that follow are its own."""
        return self._phases.mark(name, time.monotonic())

    @property
    def phase(self) -> Phase:
        """The figures since the last mark."""
        return self._phases.all[-1]

    @property
    def adopted(self) -> set[str]:
        """The existing sessions that were taken so far; all others are as they were."""
        return self._load.adopted

    async def hold(self, seconds: float, enough: asyncio.Event | None = None) -> None:
        """Let the load go on for `seconds`, until `enough` is set, or until the ledger breaks down; `stop` says why."""
        assert self._task is not None
        waiting = asyncio.create_task((enough or asyncio.Event()).wait())
        await asyncio.wait({self._task, waiting}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()

    async def stop(self) -> None:
        """Send nothing more, read everything back through every host, and check it."""
        self._phases.settle(time.monotonic())
        self._stopping.set()
        try:
            if self._task is not None:
                await self._task
        finally:
            self._phases.end(time.monotonic())
            self._judge.close()
            for host in self._hosts:
                host.close()

    def report(self) -> Report:
        """What was found; complete after `stop`."""
        return Report(
            seed=self._seed,
            hosts=[host.url for host in self._hosts],
            checked=self._judge.checked,
            confirmed=self._back.confirmed,
            unread=self._back.unread,
            undecided=self._judge.undecided,
            found=self._judge.found,
            held_back=self._load.held_back,
            whole=self._phases.whole.figures(),
            phases=[phase.figures() for phase in self._phases.all],
            stories=self._judge.stories,
        )
