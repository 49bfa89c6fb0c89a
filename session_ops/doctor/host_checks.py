"""What this host says: its clock beside the others', room on its disks, files with secrets, and its own service."""

from __future__ import annotations

import shutil
import stat
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx

from session_ops.control import MAXIMUM_SKEW
from session_ops.doctor.findings import Finding, finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from session_ops.settings import Settings

NOTED: Final = 1_000
"""Milliseconds of skew that are worth a warning; above `MAXIMUM_SKEW` the hosts leave Redis alone."""

LITTLE, HARDLY = 0.10, 0.03
"""Shares of a file system that are free: a warning below the first, an error below the second."""

_TIMEOUT: Final = 3.0


def clock_findings(ahead: Mapping[str, float]) -> Iterator[Finding]:
    """`ahead`: how far each one's clock is ahead of this host's, in ms."""
    clocks = {"this host": 0.0, **ahead}
    first, last = min(clocks, key=lambda name: clocks[name]), max(clocks, key=lambda name: clocks[name])
    skew = clocks[last] - clocks[first]
    if skew > NOTED:
        severity: Any = "error" if skew > MAXIMUM_SKEW else "warning"
        yield finding("clock-skew", f"{last} is {skew / 1000:.1f} s ahead of {first}", severity)


def ahead_of_here(theirs: float, sent: float) -> float:
    """How far a clock that said `theirs` (ms) is ahead of ours; `sent` (`time.time`): when it was asked."""
    return theirs - (sent + time.time()) * 500


def disk_findings(paths: Iterable[Path]) -> Iterator[Finding]:
    """File systems with little room, each once."""
    seen: set[int] = set()
    for path in paths:
        try:
            device = path.stat().st_dev
            usage = shutil.disk_usage(path)
        except OSError:
            continue
        free = usage.free / usage.total if usage.total else 1.0
        if free < LITTLE and device not in seen:
            severity: Any = "error" if free < HARDLY else "warning"
            yield finding("disk-full", f"{path}: {free:.0%} of {usage.total:,} bytes are free", severity)
        seen.add(device)


def paths_of(settings: Settings) -> list[Path]:
    """Where this host keeps what the service and its stores need room for, as far as it is here."""
    given = [settings.redis_data_dir, settings.session_metrics_dir, settings.session_flag_file]
    named = [Path(each) if Path(each).is_dir() else Path(each).parent for each in given if each]
    return [Path(sys.prefix), Path("/var/log"), Path("/var/lib/redis"), Path("/var/lib/valkey"), *named]


def secret_findings(settings: Settings) -> Iterator[Finding]:
    """Files that hold a secret and that others may read."""
    for name, source in settings.sources.items():
        path = Path(source.removeprefix("file "))
        if not source.startswith("file ") or str(path) == settings.session_flag_file:
            continue
        try:
            mode = path.stat().st_mode
        except OSError:
            continue
        if mode & (stat.S_IRGRP | stat.S_IROTH | stat.S_IWGRP | stat.S_IWOTH):
            yield finding("secret-readable", f"{path} ({name}) has mode {stat.S_IMODE(mode):04o}")


def service_findings(settings: Settings) -> Iterator[Finding]:
    """What the service of this host answers, where SESSION_LISTEN says that there is one."""
    if settings.sources["SESSION_LISTEN"] == "default":
        return
    url = f"http://{settings.session_listen}/readyz"
    try:
        answer = httpx.get(url, timeout=_TIMEOUT, trust_env=False)
        report: dict[str, Any] = answer.json()
        ready, reasons, flag = report["ready"], report["reasons"], report["flag"]
    except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
        yield finding("service-down", f"{url}: {type(error).__name__}")
        return
    if not ready:
        yield finding("service-not-ready", f"{url}: {'; '.join(map(str, reasons))}")
    wanted = settings.flag
    in_force = (flag.get("use_redis_sessions"), flag.get("session_redis_percent"))
    if settings.session_flag_file and in_force != (wanted.use_redis_sessions, wanted.session_redis_percent):
        on_disk = f"{wanted.use_redis_sessions}, {wanted.session_redis_percent} %"
        yield finding("flag-not-read", f"the file says {on_disk}; in force are {in_force[0]}, {in_force[1]} %")
