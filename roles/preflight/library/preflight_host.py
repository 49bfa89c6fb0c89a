#!/usr/bin/python
"""Ansible module: all that preflight wants to know of a host, in one look. It changes nothing."""

from __future__ import annotations

import os
import pathlib
import re
import shlex
import socket
import tempfile
import urllib.parse
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: preflight_host
short_description: What a host is like
description:
  - Reads the system, memory, free disk, listening ports with their owners, missing packages, and whether the package
    sources answer where a package is missing. Changes nothing.
options:
  packages:
    description: Packages that will be needed.
    type: list
    elements: str
    default: []
  paths:
    description: Paths whose file systems need room; a path need not exist yet.
    type: list
    elements: path
    default: []
  addresses:
    description: Addresses that will be listened on.
    type: list
    elements: str
    default: []
  release_link:
    description: Link to the release in use, there on a host that serves already.
    type: path
author: session-ops
"""
EXAMPLES = r"""
- name: The host is known
  preflight_host:
    packages: [redis-server]
    paths: [/var/lib/redis]
    addresses: [127.0.0.1]
"""
RETURN = r"""
system:
  description: ID and version of the distribution.
  returned: always
  type: dict
serves:
  description: Whether the host has a release in use.
  returned: always
  type: bool
listeners:
  description: Listening TCP sockets (address, port, process, unit).
  returned: always
  type: list
"""

_LISTEN = "0A"  # proc(5), net/tcp: state TCP_LISTEN
# A package source that has not answered by then is down for apt's purposes too.
_TIMEOUT = 5


def system(root: pathlib.Path) -> dict[str, str]:
    """Return ID and VERSION_ID of os-release(5)."""
    try:
        lines = (root / "etc/os-release").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {"id": "unknown", "version": ""}
    pairs = dict(line.split("=", 1) for line in lines if "=" in line)
    values = {key: shlex.split(value)[0] if value else "" for key, value in pairs.items()}
    return {"id": values.get("ID", "unknown"), "version": values.get("VERSION_ID", "")}


def memory(root: pathlib.Path) -> int:
    """Return the bytes of memory this host may use: what the machine has, or its control group's limit if lower."""
    text = (root / "proc/meminfo").read_text(encoding="ascii")
    total = int(re.findall(r"^MemTotal:\s+(\d+) kB", text, re.MULTILINE)[0]) * 1024
    for limit in ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            total = min(total, int((root / limit).read_text(encoding="ascii")))
        except (OSError, ValueError):
            continue  # no such group here, or "max"
    return total


def free_megabytes(path: pathlib.Path) -> int:
    """Return the free megabytes where the path is or will be."""
    while not path.exists():
        path = path.parent
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize // 1024**2


def is_local(address: str) -> bool:
    """Say whether this host has the address (or name); found by binding a socket that is closed at once."""
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(address, 0, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(target)
    except OSError:
        return False
    return True


def decoded(address: str) -> str:
    """Return an address of /proc/net/tcp or tcp6 (hexadecimal, words in the machine's order) as people write it."""
    raw = bytes.fromhex(address)
    words = b"".join(raw[i : i + 4][::-1] for i in range(0, len(raw), 4))
    return socket.inet_ntop(socket.AF_INET if len(words) == 4 else socket.AF_INET6, words)


def listening(root: pathlib.Path) -> dict[str, tuple[str, int]]:
    """Return address and port of every listening TCP socket, by inode."""
    found = {}
    for table in ("tcp", "tcp6"):
        path = root / "proc/net" / table
        if not path.exists():
            continue
        for row in path.read_text(encoding="ascii").splitlines()[1:]:
            fields = row.split()
            if fields[3] == _LISTEN:
                address, port = fields[1].split(":")
                found[fields[9]] = (decoded(address), int(port, 16))
    return found


def owners(root: pathlib.Path, inodes: set[str]) -> dict[str, list[dict[str, str]]]:
    """Return the processes that hold these sockets, each with its systemd unit, by inode."""
    holding: dict[str, list[dict[str, str]]] = {}
    for descriptor in (root / "proc").glob("[0-9]*/fd/*"):
        try:
            target = str(descriptor.readlink())
        except OSError:
            continue  # the process has just ended
        inode = target.removeprefix("socket:[").removesuffix("]")
        if inode in inodes and target.startswith("socket:["):
            holding.setdefault(inode, []).append(process(descriptor.parent.parent))
    return holding


def process(directory: pathlib.Path) -> dict[str, str]:
    """Return name, number and unit of a process from its folder in /proc."""
    try:
        name = (directory / "comm").read_text(encoding="utf-8").strip()
        groups = (directory / "cgroup").read_text(encoding="utf-8")
    except OSError:
        name, groups = "?", ""
    units = re.findall(r"/([^/\n]+\.(?:service|scope|socket))(?:/|$)", groups, re.MULTILINE)
    return {"process": name, "pid": directory.name, "unit": units[-1] if units else ""}


def listeners(root: pathlib.Path) -> list[dict[str, Any]]:
    """Return every listening socket with whom it belongs to."""
    sockets = listening(root)
    holding = owners(root, set(sockets))
    return [
        {"address": address, "port": port, "owners": holding.get(inode, [])}
        for inode, (address, port) in sorted(sockets.items())
    ]


def missing_packages(module: AnsibleModule, packages: list[str]) -> list[str]:
    """Return those of the packages that are not installed."""
    if not packages:
        return []
    _, out, _ = module.run_command(["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *packages])
    return [package for package in packages if f"{package} installed" not in out.splitlines()]


def silent_sources(module: AnsibleModule) -> list[str]:
    """Return a sentence for each package source that does not answer apt's own transport (so that proxies count)."""
    _, out, _ = module.run_command(["apt-get", "update", "--print-uris"])
    sources: dict[str, str] = {}
    for uri in re.findall(r"^'([^']+InRelease)'", out, re.MULTILINE):
        sources.setdefault(urllib.parse.urlsplit(uri).netloc or uri, uri)
    if not sources:
        return ["no package source is configured in /etc/apt"]
    failed = []
    options = [
        f"Acquire::{name}={value}"
        for name, value in (("http::Timeout", _TIMEOUT), ("https::Timeout", _TIMEOUT), ("Retries", 0))
    ]
    for uri in sources.values():
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder).chmod(0o755)
            command = ["/usr/lib/apt/apt-helper", *(word for option in options for word in ("-o", option))]
            code, _, err = module.run_command([*command, "download-file", uri, f"{folder}/InRelease"])
        if code != 0:
            reason = err.strip().splitlines()[-1] if err.strip() else f"exit status {code}"
            failed.append(f"{uri} does not answer ({reason.removeprefix('E: ')})")
    return failed


def main() -> None:
    """Look, and report."""
    module = AnsibleModule(
        argument_spec={
            "packages": {"type": "list", "elements": "str", "default": []},
            "paths": {"type": "list", "elements": "path", "default": []},
            "addresses": {"type": "list", "elements": "str", "default": []},
            "release_link": {"type": "path"},
        },
        supports_check_mode=True,
    )
    root = pathlib.Path("/")
    found = system(root)
    link = module.params["release_link"]
    missing = missing_packages(module, module.params["packages"]) if found["id"] == "debian" else []
    module.exit_json(
        changed=False,
        system=found,
        init=(root / "proc/1/comm").read_text(encoding="utf-8").strip(),
        memory=memory(root),
        free={path: free_megabytes(pathlib.Path(path)) for path in module.params["paths"]},
        foreign_addresses=[address for address in module.params["addresses"] if not is_local(address)],
        serves=link is not None and os.path.lexists(link),
        listeners=listeners(root),
        missing_packages=missing,
        silent_sources=silent_sources(module) if missing else [],
    )


if __name__ == "__main__":
    main()
