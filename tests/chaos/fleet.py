"""The lab's fleet as the faults see it: shell on its hosts over SSH, and what its services say about themselves."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fleet.lab import STATE
from tests.ledger.wire import Host, NoAnswerError, NotSentError

COMMAND_LIMIT = 60.0
"""Seconds that a command on a host may take; a start of a large Redis is the longest."""

SERVICE_PORT = 8080


class FleetError(Exception):
    """A command on a host failed, or the fleet did not become healthy; the message says which and why."""


@dataclass(frozen=True)
class Ready:
    """What one service host says about itself, None where it says nothing."""

    ready: bool
    reasons: list[str]
    mode: str | None
    prefix: str | None
    use_redis: bool | None


SILENT = Ready(ready=False, reasons=["no answer"], mode=None, prefix=None, use_redis=None)


class Fleet:
    """The hosts of the lab $SESSION_OPS_LAB. Faults know them by group."""

    def __init__(self, state: Path = STATE) -> None:
        """`state` is the lab's own folder, with its addresses, key and token. Raises `FleetError` without one."""
        if not (state / "known_hosts").exists():
            raise FleetError("there is no fleet to put faults on; make one with: make rollout")
        lab = json.loads((state / "lab.json").read_text())
        self._address = {host["name"]: host["address"] for host in lab["hosts"]}
        self._group = {host["name"]: host["groups"] for host in lab["hosts"]}
        self.token = (state / "token").read_text().strip()
        # One connection per host, kept open: a fault begins when it is wanted, not when SSH has shaken hands.
        control = Path(tempfile.gettempdir()) / f"chaos-{lab['id']}-%n"
        self._ssh = ["ssh", "-F", str(state / "ssh_config"), "-o", "BatchMode=yes", "-o", "ConnectTimeout=5"]
        self._ssh += ["-o", "ControlMaster=auto", "-o", "ControlPersist=60", "-o", f"ControlPath={control}"]
        # The open end of a probe is its own: no token, no ledger.
        self._probes = {name: Host(self.url(name), "", timeout=2.0) for name in self.hosts("session_service")}

    def hosts(self, group: str) -> list[str]:
        """The names of a group's hosts."""
        return [name for name, groups in self._group.items() if group in groups]

    def url(self, host: str) -> str:
        """Where a service host answers."""
        return f"http://{self._address[host]}:{SERVICE_PORT}"

    @property
    def urls(self) -> list[str]:
        """Where the service answers, host by host."""
        return [self.url(host) for host in self.hosts("session_service")]

    async def run(self, host: str, script: str) -> str:
        """Run a shell script on a host and return what it prints. $REDIS and $LEGACY are the stores' addresses.

        Raises `FleetError` when it fails.
        """
        status, output = await self._shell(host, script)
        if status != 0:
            raise FleetError(f"on {host}, exit {status}: {output.strip()[-500:]}\n{script}")
        return output

    async def holds(self, host: str, condition: str) -> bool:
        """Whether a shell script on a host exits with 0."""
        status, _ = await self._shell(host, condition)
        return status == 0

    async def ready(self, host: str) -> Ready:
        """What a service host says about itself; never raises for a host that is down."""
        try:
            reply = await self._probes[host].request("GET", "/readyz")
            body: dict[str, Any] = json.loads(reply.body)
        except (NotSentError, NoAnswerError, ValueError):
            return SILENT
        redis = body["stores"]["redis"]
        return Ready(
            ready=reply.status == 200,
            reasons=body["reasons"],
            mode=redis.get("mode"),
            prefix=redis.get("prefix"),
            use_redis=body["flag"]["use_redis_sessions"],
        )

    async def states(self) -> dict[str, Ready]:
        """What every service host says about itself."""
        names = self.hosts("session_service")
        return dict(zip(names, await asyncio.gather(*map(self.ready, names)), strict=True))

    async def healthy(self, patience: float) -> tuple[float, Ready]:
        """Wait until every service host is ready, in one generation with its mode known.

        Returns the seconds that it took, and what the hosts say. Raises `FleetError` after `patience` seconds.
        """
        began = time.monotonic()
        while True:
            states = await self.states()
            first = next(iter(states.values()))
            known = first.mode is not None
            if known and all(each.ready and each.prefix == first.prefix for each in states.values()):
                return time.monotonic() - began, first
            if time.monotonic() - began > patience:
                told = {name: (state.reasons or state.prefix) for name, state in states.items()}
                raise FleetError(f"not healthy after {patience:.0f} s: {told}")
            await asyncio.sleep(0.2)

    def close(self) -> None:
        """Close the probes' connections; those of SSH end by themselves."""
        for probe in self._probes.values():
            probe.close()

    async def _shell(self, host: str, script: str) -> tuple[int, str]:
        addresses = {"REDIS": self.hosts("redis")[0], "LEGACY": self.hosts("legacy")[0]}
        head = "".join(f"{name}={self._address[other]}\n" for name, other in addresses.items())
        process = await asyncio.create_subprocess_exec(
            *self._ssh,
            *(host, "bash -eu -s"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(COMMAND_LIMIT):
                output, _ = await process.communicate((head + script).encode())
        except TimeoutError:
            process.kill()
            await process.wait()
            raise FleetError(f"on {host}: still running after {COMMAND_LIMIT:.0f} s\n{script}") from None
        return process.returncode or 0, output.decode(errors="replace")
