"""What systemd and the service itself say about the running service."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SERVICE = "session-service.service"

SURE = 2.0
"""Seconds for which credentials must be refused before the wait for readiness is given up."""
SOCKET = "session-service.socket"


@dataclasses.dataclass(frozen=True)
class Unit:
    """A unit as systemd has it now; `since` is the Unix time at which it became active, 0 when it is not."""

    state: str
    reload_needed: bool
    since: float
    enabled: bool = False

    @property
    def settled(self) -> bool:
        """Say whether the unit runs, will run after a boot, and is what systemd has read."""
        return self.state == "active" and self.enabled and not self.reload_needed

    def older_than(self, paths: Iterable[Path]) -> bool:
        """Say whether one of the paths was put in place after the unit started.

        The time of the last change of the inode is what counts: a rename into place sets it, whenever the content was
        written. This is a question about the host's state and not about what this run changed, so that a run that was
        cut short before its restart is made good by the next one.
        """
        return self.since > 0 and any(path.lstat().st_ctime > self.since for path in paths if path.exists())


def show_unit(name: str) -> Unit:
    """Ask systemd about a unit; one that it does not know is `inactive`."""
    main = "ExecMainStartTimestampMonotonic" if name.endswith(".service") else "ActiveEnterTimestampMonotonic"
    command = ["systemctl", "show", name, "--property", f"ActiveState,NeedDaemonReload,UnitFileState,{main}"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    values = dict(line.split("=", 1) for line in answer.splitlines() if "=" in line)
    active = values.get("ActiveState", "inactive")
    # Both clocks are read here, so that a clock that was set since the start does not count.
    started = int(values.get(main) or 0) / 1e6
    since = time.time() - (time.monotonic() - started) if active in {"active", "reloading"} and started else 0.0
    return Unit(active, values.get("NeedDaemonReload") == "yes", since, values.get("UnitFileState") == "enabled")


def journal(lines: int = 15) -> str:
    """The service's last journal lines, without time and host."""
    command = ["journalctl", "--unit", SERVICE, "--lines", str(lines), "--no-pager", "--output", "cat", "--quiet"]
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    return result.stdout.strip() or "(the journal has nothing about it)"


def ask_ready(url: str, timeout: float) -> dict[str, Any]:
    """Ask `/readyz` once: its answer, and `error` where there is none. Never raises."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=timeout) as answer:
            return _decode(answer.read())
    except urllib.error.HTTPError as error:
        return _decode(error.read()) | {"ready": False}
    except (OSError, ValueError) as error:
        return {"ready": False, "error": str(getattr(error, "reason", error))}


def wait_ready(url: str, timeout: float) -> dict[str, Any]:
    """Ask `/readyz` until the service serves or `timeout` seconds are over; answers the last answer.

    The service has no event for this (READY=1 says that it listens, not that its store answers), so it is asked.
    Refused credentials and a legacy table that is not prepared end the wait after SURE seconds: Redis has its users and
    the table its columns before the service starts, so waiting on would only delay the refusal.
    """
    began = time.monotonic()
    deadline = began + timeout
    pause = 0.05
    while True:
        answer = ask_ready(url, max(0.5, min(3.0, deadline - time.monotonic())))
        if serves(answer) or time.monotonic() >= deadline:
            return answer
        if (refused_credentials(answer) or unprepared(answer)) and time.monotonic() >= began + SURE:
            return answer
        time.sleep(pause)
        pause = min(pause * 1.5, 0.5)


def serves(answer: dict[str, Any]) -> bool:
    """Whether the service is ready, with Redis unless the fleet has given it up.

    Beside a legacy store a host is ready without Redis too, and a password that is wrong would pass from host to host.
    Where Redis is away in truth the hosts give it up, and the wait is over.
    """
    without = _store(answer, "legacy").get("redis") == "on" and _store(answer, "redis").get("state") != "up"
    return bool(answer.get("ready")) and not without


def refused_credentials(answer: dict[str, Any]) -> bool:
    """Whether Redis has refused the service's user or its password."""
    redis = _store(answer, "redis")
    return redis.get("reason") in ("wrong password", "password required", "not permitted")


def unprepared(answer: dict[str, Any]) -> bool:
    """Whether the legacy store has rows of the application that `migrate prepare` has not been run for."""
    reason = str(_store(answer, "legacy").get("reason") or "")
    return reason == "schema missing" or reason.startswith("not prepared")


def generation_number(answer: dict[str, Any]) -> int:
    """The generation beside a legacy store, 0 where none was opened or there is no such store."""
    return int(_store(answer, "legacy").get("generation") or 0)


def _store(answer: dict[str, Any], name: str) -> dict[str, Any]:
    store: dict[str, Any] = answer.get("stores", {}).get(name, {})
    return store


def reasons(answer: dict[str, Any]) -> str:
    """Why the service is not ready, in one line."""
    given = answer.get("reasons") or [answer.get("error") or "it gave no reason"]
    return "; ".join(str(reason) for reason in given)


def _decode(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        return {"ready": False, "error": f"/readyz answered no JSON: {body[:200]!r}"}
    return answer if isinstance(answer, dict) else {"ready": False, "error": "/readyz answered no JSON object"}
