"""`make mutation`: take each guard out of a copy of the implementation, and see which test notices.

Exits 1 when a guard is not noticed, when its text is no longer found, or when a test fails with all guards in place.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.bench.report import OUT
from tests.postgresql import PostgreSQLServer
from tests.protocol.implementation.removals import Removal
from tests.protocol.implementation.removals_between import BETWEEN
from tests.protocol.implementation.removals_in_legacy import IN_LEGACY
from tests.protocol.implementation.removals_in_redis import IN_REDIS
from tests.protocol.implementation.removals_retiring import RETIRING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parents[2]
TESTS = "tests/protocol/implementation"
REMOVALS = (*IN_LEGACY, *IN_REDIS, *BETWEEN, *RETIRING)
_TIMEOUT = 120
_SHARED = """

@pytest.fixture(scope="session")
def postgresql_server():
    from types import SimpleNamespace

    return SimpleNamespace(url={url!r})
"""
_FAILED = re.compile(r"(\d+) failed")
_ERROR = re.compile(r"(\d+) error")


class Verdict(NamedTuple):
    """What the test said of a copy: `noticed` only where it ran and failed, not where it could not run."""

    noticed: bool
    seconds: float
    output: str


def copy(to: Path, url: str) -> None:
    """Copy the package and what its tests need. They share the PostgreSQL at `url`: starting one takes longer than most
    of them.
    """
    # With what is compiled already: only the file that a guard is taken out of is compiled again
    ignored = shutil.ignore_patterns("fleet", "hosts", "chaos", "ledger")
    for name in ("session_ops", "tests"):
        shutil.copytree(ROOT / name, to / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", to)
    with (to / TESTS / "conftest.py").open("a") as conftest:
        conftest.write(_SHARED.format(url=url))


def run(at: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    """Run tests on the copy: both its packages come before the checkout's."""
    paths = [f"{TESTS}/{test}" for test in tests]
    environment = {**os.environ, "PYTHONPATH": str(at), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--tb=line", *paths]
    return subprocess.run(
        command, cwd=at, env=environment, capture_output=True, text=True, timeout=_TIMEOUT, check=False
    )


def without(removal: Removal, url: str) -> Verdict:
    """Take one guard away and run its test."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="session-ops-mutation-") as directory:
        at = Path(directory)
        copy(at, url)
        file = at / "session_ops" / removal.file
        text = file.read_text()
        found = text.count(removal.old)
        if found != removal.times:
            return Verdict(False, 0.0, f"found {found} times in {removal.file}, not {removal.times}: {removal.old!r}")
        file.write_text(text.replace(removal.old, removal.new))
        try:
            done = run(at, removal.test)
        except subprocess.TimeoutExpired:
            return Verdict(False, time.monotonic() - began, "the test did not end")
    noticed = done.returncode == 1 and bool(_FAILED.search(done.stdout)) and not _ERROR.search(done.stdout)
    return Verdict(noticed, time.monotonic() - began, done.stdout[-2000:] + done.stderr[-2000:])


def intact(url: str) -> bool:
    """Whether every test passes on a copy with all guards, whose package is the copy's and not the checkout's."""
    with tempfile.TemporaryDirectory(prefix="session-ops-mutation-") as directory:
        at = Path(directory)
        copy(at, url)
        (at / TESTS / "test_copy.py").write_text(
            f"import session_ops\n\ndef test_copy():\n    assert session_ops.__file__.startswith({str(at)!r})\n"
        )
        done = run(at, "")
        if done.returncode:
            print(done.stdout[-4000:])
        return done.returncode == 0


@contextmanager
def databases(number: int) -> Iterator[list[str]]:
    """So many PostgreSQL servers, one for each copy that is tested at the same time; their URLs."""
    servers: list[PostgreSQLServer] = []
    try:
        for _ in range(number):
            servers.append(PostgreSQLServer())
            servers[-1].start()
        yield [server.url for server in servers]
    finally:
        for server in servers:
            server.remove()


def take_away(chosen: Sequence[Removal], urls: Sequence[str]) -> list[dict[str, Any]]:
    """Print a line per guard; the figures."""
    free: queue.SimpleQueue[str] = queue.SimpleQueue()
    for url in urls:
        free.put(url)

    def judge(removal: Removal) -> Verdict:
        url = free.get()
        try:
            return without(removal, url)
        finally:
            free.put(url)

    figures: list[dict[str, Any]] = []
    print(f"{'guard taken away':<62}{'s':>6}  noticed by")
    with ThreadPoolExecutor(len(urls)) as pool:
        for removal, verdict in zip(chosen, pool.map(judge, chosen), strict=True):
            named = removal.test if verdict.noticed else "NOBODY"
            print(f"{removal.guard:<62}{verdict.seconds:>6.1f}  {named}", flush=True)
            if not verdict.noticed:
                print(verdict.output)
            value = int(verdict.noticed)
            figures.append(
                {"name": removal.guard, "unit": "noticed", "goal": ">= 1", "value": value, "runs": [value]}
                | {"ok": verdict.noticed, "test": removal.test, "seconds": round(verdict.seconds, 1)}
            )
    return figures


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.protocol.mutation", description=__doc__)
    parser.add_argument("--only", default="", help="only the guards whose name contains this; leaves the report alone")
    parser.add_argument("--at-once", type=int, default=os.cpu_count() or 1, help="copies that are tested at once")
    arguments = parser.parse_args()
    chosen = [removal for removal in REMOVALS if arguments.only in removal.guard]
    with databases(arguments.at_once) as urls:
        if not intact(urls[0]):
            print("the tests fail with every guard in place")
            return 1
        figures = take_away(chosen, urls)
    missed = sum(not figure["ok"] for figure in figures)
    print(f"{len(figures)} guards taken away, {missed} times unnoticed")
    if not arguments.only:
        OUT.mkdir(exist_ok=True)
        (OUT / "mutation.json").write_text(json.dumps(figures, indent=2) + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
