"""Questions asked of a host, several in one round trip, because a round trip costs more than the answer."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from testinfra.host import Host

    from tests.hosts.expectations import Expectations


@dataclass(frozen=True)
class Entry:
    """A file as `stat` sees it, links not followed. Where one is wanted, its mode may be several: `0640|0600`."""

    kind: str
    mode: str
    owner: str
    group: str

    def __str__(self) -> str:
        return f"a {self.kind}, mode {self.mode}, of {self.owner}:{self.group}"


@dataclass(frozen=True)
class Listener:
    """An open port: protocol, address, port, and the names of the processes that hold it."""

    protocol: str
    address: str
    port: int
    processes: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.protocol} {self.address}:{self.port} ({', '.join(self.processes) or 'no process'})"


def redis_unit(expected: Expectations) -> str:
    """The unit of the package that the inventory chose: Debian names both alike."""
    return f"{expected['redis_package']}.service"


def units_of(expected: Expectations) -> list[str]:
    """The units that a host of these groups runs."""
    groups = expected["group_names"]
    units = []
    if "redis" in groups:
        units += [redis_unit(expected), "session-functions.service"]
    if "session_service" in groups:
        units += ["session-service.socket", "session-service.service"]
    if "legacy" in groups:
        units += ["postgresql.service"]
    return units


def entries(host: Host, *paths: str) -> dict[str, Entry]:
    """Stat all paths at once; one that does not exist is left out."""
    command = "stat --format='%%n|%%F|%%04a|%%U|%%G' -- " + " ".join(["%s"] * len(paths)) + " 2>/dev/null || true"
    found = {}
    for line in host.check_output(command, *paths).splitlines():
        path, kind, mode, owner, group = line.rsplit("|", 4)
        found[path] = Entry(kind.replace("regular empty file", "regular file"), mode, owner, group)
    return found


def differing(host: Host, wanted: dict[str, Entry]) -> list[str]:
    """Say of every file that is not as wanted what it is and what it should be."""
    found = entries(host, *wanted)
    wrong = []
    for path, entry in wanted.items():
        if path not in found:
            wrong.append(f"{path} is missing")
        elif found[path] not in [replace(entry, mode=mode) for mode in entry.mode.split("|")]:
            wrong.append(f"{path} is {found[path]}, should be {entry}")
    return wrong


def unit_states(host: Host, *units: str) -> dict[str, dict[str, str]]:
    """The properties of units that say whether they run as they should."""
    properties = "Id,LoadState,ActiveState,UnitFileState,NeedDaemonReload,MainPID,Environment"
    shown = host.check_output(f"systemctl show --property={properties} -- " + " ".join(units))
    blocks = [dict(line.split("=", 1) for line in block.splitlines()) for block in shown.split("\n\n")]
    return {block["Id"]: block for block in blocks}


def exposure(host: Host, unit: str) -> float:
    """The overall exposure of a unit by `systemd-analyze security`: 0 is closed, 10 is open."""
    analysis = host.check_output("systemd-analyze security --no-pager %s", unit)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", analysis)
    assert found, f"systemd-analyze says nothing of {unit}: {analysis[-300:]}"
    return float(found.group(1))


def listeners(host: Host) -> list[Listener]:
    """Every TCP and UDP port that the host has open."""
    found = []
    for line in host.check_output("ss -H -l -n -t -u -p").splitlines():
        columns = line.split(maxsplit=6)
        address, _, port = columns[4].rpartition(":")
        processes = tuple(sorted(set(re.findall(r'"([^"]+)",pid=', line))))
        found.append(Listener(columns[0], address.split("%")[0].strip("[]"), int(port), processes))
    return found


def ask_redis(host: Host, expected: Expectations, *commands: str) -> list[Any]:
    """Ask Redis as its administrator, in one connection; the password stays in files and root's environment."""
    password = f"{expected['redis_configuration_directory']}/administrator.password"
    client = expected["redis_package"].removesuffix("-server") + "-cli"
    script = (
        f'REDISCLI_AUTH="$(cat {password})" && export REDISCLI_AUTH && printf "%%s\\n" '
        + " ".join(["%s"] * len(commands))
        + f" | {client} --no-auth-warning --json --user {expected['redis_administrator_user']}"
        + f" -h {expected['redis_bind_addresses'][0]} -p {expected['redis_port']}"
    )
    lines = host.check_output(script, *commands).splitlines()
    refused = [line for line in lines if line.startswith(("error:", "AUTH failed"))]
    assert not refused, f"Redis does not answer its administrator: {refused[0]}"
    assert len(lines) == len(commands), f"Redis answered {len(lines)} of {len(commands)} questions"
    return [json.loads(line) for line in lines]
