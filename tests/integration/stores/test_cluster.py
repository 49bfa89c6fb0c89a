"""On a real Cluster of three primaries every operation does what it does on one Redis: none leaves its slot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from session_ops.errors import StoreNotEmptyError, StoreUnavailableError
from session_ops.records import NewSession
from session_ops.stores.functions import Functions
from session_ops.stores.layout import Names
from session_ops.stores.library import LIBRARY, NO_PIN, load_library
from session_ops.stores.redis import RedisSessionRepository
from tests.conftest import administrator_connection
from tests.exercise import Outcomes, exercise
from tests.integration.stores.cluster import Cluster, ClusterConnection
from tests.servers import DEFAULT_PROGRAM

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from session_ops.stores.connection import Connection

PARTITIONS = 256
PREFIX = "1-cluster"
MIRRORED = ("put", "mark", "sweep", "mode", "keep")
"""What only a generation beside a legacy store calls: the ownership protocol knows one primary, and no Cluster."""


@pytest.fixture(scope="session")
def redis_program() -> str:
    """One program: what leaves its slot does so on all of them."""
    return DEFAULT_PROGRAM


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        yield made.start()
    finally:
        made.stop()


@pytest_asyncio.fixture
async def administrators(cluster: Cluster) -> AsyncIterator[dict[int, Connection]]:
    """An administrator's connection to every primary, empty and with the library."""
    made = {server.port: administrator_connection(server) for server in cluster.servers}
    for connection in made.values():
        await connection.call("FLUSHALL", change=True)
        await load_library(connection)
    yield made
    for connection in made.values():
        await connection.close()


@pytest_asyncio.fixture
async def connection(cluster: Cluster, administrators: dict[int, Connection]) -> AsyncIterator[ClusterConnection]:
    made = await ClusterConnection.to(cluster, next(iter(administrators.values())))
    yield made
    await made.close()


async def open_on_every_primary(connection: ClusterConnection, prefix: str = PREFIX) -> list[bool]:
    """Open each primary's own partitions: whether it is empty is a question to one server."""
    opened = []
    for port, node in connection.nodes.items():
        names = [
            Names(prefix, partition) for partition in range(PARTITIONS) if connection.primary_of(partition) == port
        ]
        opened.append(any(await Functions(node, names, NO_PIN, opened=True).open("final")))
    return opened


async def test_every_function_is_called_and_does_what_it_does_on_one_redis(
    connection: ClusterConnection,
    administrators: dict[int, Connection],
    administrator: Connection,
    make_repository: Callable[..., RedisSessionRepository],
) -> None:
    assert await open_on_every_primary(connection) == [True, True, True]
    assert await open_on_every_primary(connection) == [False, False, False]
    await administrator.call("FLUSHALL", change=True)
    alone = make_repository(prefix=PREFIX, partitions=PARTITIONS)
    await alone.open_generation()
    # An entry without its session in every partition, for the lists to find and heal
    for partition in range(PARTITIONS):
        key = f"sessions:{PREFIX}:{{{partition}}}:created"
        for store in (administrator, administrators[connection.primary_of(partition)]):
            await store.call("ZADD", key, 0, "0", change=True)
            await store.call("ZADD", key + ":0", 1, "gone", change=True)
    seen, on_one = Outcomes(), Outcomes()

    spread = RedisSessionRepository(connection, prefix=PREFIX, partitions=PARTITIONS)
    await exercise(spread, seen)
    await exercise(alone, on_one)

    assert seen.noted == on_one.noted
    assert [name for name, outcome in seen.noted if "Error" in outcome] == ["create again"]
    [library] = await administrator.call("FUNCTION", "LIST", "LIBRARYNAME", LIBRARY)
    functions = {dict(zip(each[::2], each[1::2], strict=True))[b"name"] for each in dict_of(library)[b"functions"]}
    called = {name for names in connection.called.values() for name in names}
    elsewhere = {f"{LIBRARY}_{name}".encode() for name in ("open", *MIRRORED)}
    assert {f"{LIBRARY}_{name}".encode() for name in called} | elsewhere == functions
    assert all({"create", "list", "guard", "heal"} <= names for names in connection.called.values()), connection.called


async def test_a_cluster_refuses_a_call_that_leaves_its_slot(connection: ClusterConnection) -> None:
    keys = [Names(PREFIX, partition).generation for partition in range(2)]

    with pytest.raises(StoreUnavailableError, match="CROSSSLOT"):
        await connection.call("FCALL", f"{LIBRARY}_open", 2, *keys, "final", 0, NO_PIN, change=True)


async def test_a_primary_that_holds_other_data_opens_none_of_its_partitions(
    connection: ClusterConnection, administrators: dict[int, Connection]
) -> None:
    await open_on_every_primary(connection)
    repository = RedisSessionRepository(connection, prefix=PREFIX, partitions=PARTITIONS)
    await repository.create(NewSession(user_id="ann"))

    with pytest.raises((StoreNotEmptyError, StoreUnavailableError), match="not empty"):
        await open_on_every_primary(connection, "1-other")
    for administrator in administrators.values():
        assert await administrator.call("KEYS", "generation:1-other:*") == []


def dict_of(flat: list[object]) -> dict[object, object]:
    """A map as RESP2 answers it."""
    return dict(zip(flat[::2], flat[1::2], strict=True))
