"""The service's Redis user may do all that the service needs and nothing else: both are tried on a real Redis."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import hiredis
import pytest

from session_ops.stores.acl import SERVICE_ACL
from session_ops.stores.connection import Connection
from session_ops.stores.library import LIBRARY
from session_ops.stores.redis import RedisSessionRepository
from session_ops.stores.replies import pack
from tests.exercise import Outcomes, exercise
from tests.servers import SERVICE_PASSWORD, SERVICE_USER

if TYPE_CHECKING:
    from tests.servers import RedisServer

PASSWORD = "of the user under test"
# Redis answers these before it looks at rights: a client must be able to log in, and to leave
ALWAYS_ALLOWED = {"auth", "hello", "quit", "reset"}
REFUSED = ("NOPERM", "ERR DEBUG command not allowed", "ERR MODULE command not allowed")
GRANTS = [rule for rule in SERVICE_ACL.split() if rule.startswith(("+", "~"))]
ALLOWED = {rule[1:] for rule in GRANTS if rule.startswith("+")}
# Only these are for group commit, which takes time: nobody replicates here
_GROUP_COMMIT = {"+wait", "+select"}
_full: dict[tuple[RedisServer, bool], list[tuple[str, str]]] = {}


async def outcomes(
    server: RedisServer, administrator: Connection, rules: str, *, group_commit: bool
) -> list[tuple[str, str]]:
    await administrator.call("FLUSHALL", change=True)
    await administrator.call("ACL", "SETUSER", "tried", "reset", "on", ">" + PASSWORD, *rules.split(), change=True)
    settings: dict[str, Any] = {"username": "tried", "password": PASSWORD}
    connection = Connection("127.0.0.1", server.port, **settings)
    seen = Outcomes()
    repository = RedisSessionRepository(connection, prefix="1-acl", ttl=60)
    await seen("open", repository.open_generation())
    # An entry without its session, for a list to find and heal
    await administrator.call("ZADD", "sessions:1-acl:{0}:created", 0, "0", change=True)
    await administrator.call("ZADD", "sessions:1-acl:{0}:created:0", 1, "gone", change=True)
    await exercise(repository, seen)
    stale = await administrator.call("ZRANGE", "sessions:1-acl:{0}:created:0", 0, -1)
    seen.noted.append(("healed", repr(stale)))
    await connection.close()
    if group_commit:
        # Database 1, so that the greeting selects; the changes wait for nobody, there is no replica
        other = Connection("127.0.0.1", server.port, db=1, wait_replicas=1, deadline=0.4, **settings)
        await seen("group commit", RedisSessionRepository(other, prefix="1-other").open_generation())
        await other.close()
    return seen.noted


async def full_outcomes(server: RedisServer, administrator: Connection, *, group_commit: bool) -> list[tuple[str, str]]:
    key = (server, group_commit)
    if key not in _full:
        _full[key] = await outcomes(server, administrator, SERVICE_ACL, group_commit=group_commit)
    return _full[key]


async def test_the_service_user_can_do_everything_the_service_does(
    redis_server: RedisServer, administrator: Connection
) -> None:
    seen = await outcomes(redis_server, administrator, SERVICE_ACL, group_commit=True)

    failed = [(name, outcome) for name, outcome in seen if "Error" in outcome]
    assert failed == [
        ("create again", "SessionExistsError: a session, or the tombstone of one, already has this id"),
        ("group commit", "OutcomeUnknownError: redis: not replicated"),
    ]
    assert ("healed", "[]") in seen


@pytest.mark.parametrize("grant", GRANTS)
async def test_nothing_is_granted_in_vain(redis_server: RedisServer, administrator: Connection, grant: str) -> None:
    rules = " ".join(rule for rule in SERVICE_ACL.split() if rule != grant)
    group_commit = grant in _GROUP_COMMIT

    less = await outcomes(redis_server, administrator, rules, group_commit=group_commit)

    assert less != await full_outcomes(redis_server, administrator, group_commit=group_commit)


async def test_every_other_command_is_refused(redis_server: RedisServer, administrator: Connection) -> None:
    commands = await every_command(administrator)
    service = RawClient(redis_server)
    tried = 0
    for words, arity in commands:
        name = "|".join(words)
        if name in ALLOWED or words[0] in ALLOWED or words[0] in ALWAYS_ALLOWED:
            continue
        filler = ["session:x"] * max(0, abs(arity) - len(words))
        answer = await service.ask(*words, *filler)
        assert answer.startswith(REFUSED), (name, answer)
        tried += 1
    assert tried > 250


@pytest.mark.parametrize(
    "command",
    [
        ("GET", "other"), ("HGETALL", "session"), ("SET", "sessio:x", "1"), ("HSET", "other:session:1", "f", "v"),
        ("DEL", "session:1", "other"), ("ZADD", "*", "1", "x"), ("EVAL", "return 1", "0"), ("KEYS", "*"), ("SCAN", "0"),
        ("CONFIG", "GET", "*"), ("FLUSHALL",), ("FLUSHDB",), ("FUNCTION", "DELETE", LIBRARY), ("SHUTDOWN",),
        ("FUNCTION", "LOAD", "#!lua name=x"), ("ACL", "LIST"), ("CLIENT", "LIST"), ("CLIENT", "KILL", "ID", "1"),
        ("DEBUG", "SLEEP", "0"), ("PUBLISH", "x", "y"), ("SUBSCRIBE", "x"), ("MONITOR",), ("REPLICAOF", "no", "one"),
    ],
)  # fmt: skip
async def test_what_an_intruder_would_try_is_refused(
    redis_server: RedisServer, administrator: Connection, command: tuple[str, ...]
) -> None:
    assert (await RawClient(redis_server).ask(*command)).startswith(REFUSED)


async def test_a_function_reaches_no_key_outside_the_service(
    redis_server: RedisServer, administrator: Connection
) -> None:
    answer = await RawClient(redis_server).ask("FCALL_RO", f"{LIBRARY}_guard", "1", "other:x:{0}")

    assert answer.startswith("NOPERM")


class RawClient:
    """Sees error replies as they are; a link of its own for every command, since some would end it."""

    def __init__(self, server: RedisServer) -> None:
        self._port = server.port

    async def ask(self, *command: str) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(pack(("AUTH", SERVICE_USER, SERVICE_PASSWORD)) + pack(command))
        replies = hiredis.Reader()
        answers: list[str] = []
        while len(answers) < 2 and (data := await reader.read(1 << 16)):
            replies.feed(data)
            while (reply := replies.gets()) is not False:
                answers.append(str(reply))
        writer.close()
        return answers[-1]


async def every_command(administrator: Connection) -> list[tuple[tuple[str, ...], int]]:
    found: list[tuple[tuple[str, ...], int]] = []
    for entry in await administrator.call("COMMAND"):
        name, arity, subcommands = entry[0].decode(), entry[1], entry[9]
        if subcommands:
            found.extend((tuple(sub[0].decode().split("|")), sub[1]) for sub in subcommands)
        else:
            found.append(((name,), arity))
    return found
