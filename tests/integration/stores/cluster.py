"""A real Cluster of three primaries, and a connection that sends every call to the primary of its slot."""

from __future__ import annotations

import asyncio
import binascii
import os
import re
import subprocess
import time
from typing import TYPE_CHECKING, Any, Self

from session_ops.stores.connection import Connection
from session_ops.stores.library import LIBRARY
from session_ops.stores.replies import pack
from tests.conftest import service_connection
from tests.servers import ADMINISTRATOR, ADMINISTRATOR_PASSWORD, RedisServer, free_port

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from session_ops.stores.connection import Source
    from session_ops.stores.link import Exchange
    from session_ops.stores.replies import Argument

SLOTS = 16_384
_JOIN_TIMEOUT = 60.0
_HASH_TAG = re.compile(rb"\{(\d+)\}")
_FUNCTION = re.compile(rb"\b%b_(\w+)" % LIBRARY.encode())


class Cluster:
    """Three primaries on loopback, made by redis-cli as on hosts."""

    def __init__(self, directory: Path) -> None:
        self.servers = [
            # The bus port is 10,000 above the port unless it is given, and that may be none
            RedisServer(directory / str(number), cluster_enabled="yes", cluster_port=free_port())
            for number in range(3)
        ]

    def start(self) -> Self:
        """Start the servers and join them; every slot has its primary then."""
        for server in self.servers:
            server.start()
        addresses = [f"127.0.0.1:{server.port}" for server in self.servers]
        _cli("--cluster", "create", *addresses, "--cluster-yes")
        # Each primary goes on refusing until it has heard from the others by itself
        for server in self.servers:
            limit = time.monotonic() + _JOIN_TIMEOUT
            while "cluster_state:ok" not in _cli("-p", str(server.port), "CLUSTER", "INFO"):
                assert time.monotonic() < limit
                time.sleep(0.05)
        return self

    def stop(self) -> None:
        """Stop the servers."""
        for server in self.servers:
            server.stop()


def _cli(*arguments: str) -> str:
    environment = {**os.environ, "REDISCLI_AUTH": ADMINISTRATOR_PASSWORD}
    command = ["redis-cli", "--user", ADMINISTRATOR, *arguments]
    return subprocess.run(
        command, env=environment, check=True, capture_output=True, text=True, timeout=_JOIN_TIMEOUT
    ).stdout


class ClusterConnection(Connection):
    """Sends each call to the primary of its slot, on one `Connection` per primary; notes what was called where.

    This is no client for a Cluster: it follows no slot that moves.
    """

    def __init__(self, cluster: Cluster, primaries: list[int]) -> None:
        super().__init__("127.0.0.1", cluster.servers[0].port)
        self.nodes = {server.port: service_connection(server, deadline=5) for server in cluster.servers}
        self.called: dict[int, set[str]] = {port: set() for port in self.nodes}
        self._primaries = primaries

    @classmethod
    async def to(cls, cluster: Cluster, administrator: Connection) -> ClusterConnection:
        """Connect to a cluster as it is now."""
        primaries = [0] * SLOTS
        for first, last, primary, *_ in await administrator.call("CLUSTER", "SLOTS"):
            primaries[first : last + 1] = [primary[1]] * (last + 1 - first)
        assert set(primaries) == {server.port for server in cluster.servers}
        return cls(cluster, primaries)

    def primary_of(self, partition: int) -> int:
        """The port of the primary that holds a partition."""
        return self._primaries[binascii.crc_hqx(b"%d" % partition, 0) % SLOTS]

    def _node(self, commands: bytes) -> Connection:
        tag = _HASH_TAG.search(commands)
        # What has no key may be asked anywhere
        port = self.primary_of(int(tag[1])) if tag else next(iter(self.nodes))
        self.called[port] |= {name.decode() for name in _FUNCTION.findall(commands)}
        return self.nodes[port]

    async def call(self, *command: Argument, change: bool = False) -> Any:
        """As `Connection.call`."""
        return await self._node(pack(command)).call(*command, change=change)

    def admit(self, size: int = 0) -> None:
        """Each node's connection counts its own."""

    def enlist(self, source: Source) -> None:
        """At the end of the tick, hand each exchange to the connection of its node."""
        asyncio.get_running_loop().call_soon(self._distribute, source)

    def _distribute(self, source: Source) -> None:
        for exchange in source.emit():
            node = self._node(exchange.commands)
            node.admit(exchange.size)
            for _ in range(exchange.calls - 1):
                node.admit()
            node.enlist(_Handed(exchange))

    async def close(self) -> None:
        """Close every node's connection."""
        await asyncio.gather(*[node.close() for node in self.nodes.values()])


class _Handed:
    """The source of an exchange that another source has emitted."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def emit(self) -> Iterable[Exchange]:
        return (self._exchange,)
