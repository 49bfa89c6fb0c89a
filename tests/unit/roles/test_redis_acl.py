"""Redis has exactly the wanted users: live, in its file, and through a rotation that is cut short."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from session_ops.stores.acl import DEFAULT_ACL

from .conftest import ADMINISTRATOR, PrivateRedis, Runner, load_client

MODULE = "roles/redis/library/redis_acl.py"
EVERYTHING = ["~*", "&*", "+@all"]


@pytest.fixture
def have(run_module: Runner, private_redis: PrivateRedis, me: str) -> Any:
    def run(*users: dict[str, Any], administrator: str | None = None, **more: Any) -> dict[str, Any]:
        password = administrator or private_redis.password_file.read_text().strip()
        first = {"name": ADMINISTRATOR, "password": password, "rules": EVERYTHING}
        arguments = {"aclfile": str(private_redis.aclfile), "owner": me, **private_redis.login}
        return run_module(MODULE, users=[first, *users], **arguments, **more)

    return run


def service(key: str = "one", *rules: str) -> dict[str, Any]:
    return {"name": "service", "password": key, "rules": [*rules] or ["~session:*", "+get", "+client|id"]}


def test_a_user_is_made_live_and_kept_and_the_second_run_changes_nothing(
    have: Any, private_redis: PrivateRedis
) -> None:
    assert have(service())["users"] == ["service"]
    assert private_redis.call("GET", "session:1", user="service", password="one") is None
    assert "user service on" in private_redis.aclfile.read_text()
    assert have(service())["changed"] is False


def test_the_default_user_has_the_rights_with_which_redis_replays_its_aof(
    have: Any, private_redis: PrivateRedis
) -> None:
    private_redis.call("ACL", "SETUSER", "default", "-@all")
    assert have()["users"] == ["default"]
    line = next(line for line in private_redis.call("ACL", "LIST") if line.startswith("user default "))
    assert set(DEFAULT_ACL.split()) - {"resetpass"} <= set(line.split())


def test_users_nobody_wants_are_removed(have: Any, private_redis: PrivateRedis) -> None:
    private_redis.call("ACL", "SETUSER", "stranger", "on", "nopass", "+@all")
    assert have()["users"] == ["stranger"]
    assert private_redis.call("ACL", "USERS") == [ADMINISTRATOR, "default"]


def test_the_default_user_is_switched_off(have: Any, private_redis: PrivateRedis) -> None:
    private_redis.call("ACL", "SETUSER", "default", "on", "nopass", "~*", "+@all")
    assert have()["users"] == ["default"]
    client = load_client().connect(str(private_redis.socket))
    with contextlib.closing(client), pytest.raises(load_client().RedisError, match="NOAUTH"):
        client.call("PING")


def test_a_connection_outlives_the_rotation_of_its_password(have: Any, private_redis: PrivateRedis) -> None:
    have(service("one"))
    client = load_client().connect(str(private_redis.socket))
    with contextlib.closing(client):
        client.call("AUTH", "service", "one")
        assert have(service("two"))["users"] == ["service"]
        assert client.call("GET", "session:1") is None
        with pytest.raises(load_client().RedisError, match="WRONGPASS"):
            client.call("AUTH", "service", "one")
        assert client.call("AUTH", "service", "two") == "OK"


def test_the_administrators_password_is_rotated_and_its_file_follows(have: Any, private_redis: PrivateRedis) -> None:
    assert have(administrator="brand_new")["users"] == [ADMINISTRATOR]
    assert private_redis.password_file.read_text() == "brand_new\n"
    assert private_redis.call("PING") == "PONG"
    assert have(administrator="brand_new")["changed"] is False


def test_a_rotation_cut_short_before_the_file_was_written_is_finished(have: Any, private_redis: PrivateRedis) -> None:
    private_redis.call("ACL", "SETUSER", ADMINISTRATOR, "resetpass", ">brand_new")
    result = have(administrator="brand_new")
    assert (result["changed"], result["problem"]) == (True, "")
    assert private_redis.password_file.read_text() == "brand_new\n"
    assert private_redis.call("PING") == "PONG"


def test_an_acl_file_that_lost_a_user_is_saved_again(have: Any, private_redis: PrivateRedis) -> None:
    have(service())
    private_redis.aclfile.write_text("user default off ~* &* +@all\n")
    assert have(service())["changed"] is True
    assert "user service on" in private_redis.aclfile.read_text()


def test_check_mode_changes_nothing(have: Any, private_redis: PrivateRedis) -> None:
    before = private_redis.aclfile.read_text(), private_redis.call("ACL", "LIST")
    assert have(service(), administrator="brand_new", check=True)["users"] == [ADMINISTRATOR, "service"]
    assert (private_redis.aclfile.read_text(), private_redis.call("ACL", "LIST")) == before


def test_a_rule_that_redis_refuses_is_a_problem_without_a_secret(have: Any) -> None:
    result = have(service("hunter2", "~a:*", "+nosuch"))
    assert "nosuch" in result["problem"]
    assert "redis_service_acl" in result["problem"]
    assert "hunter2" not in str(result)


def test_a_stopped_redis_gets_its_file_for_the_next_start(have: Any, private_redis: PrivateRedis) -> None:
    private_redis.stop()
    assert have(service(), administrator="brand_new")["changed"] is True
    assert have(service(), administrator="brand_new")["changed"] is False
    private_redis.start()
    assert private_redis.call("ACL", "USERS") == [ADMINISTRATOR, "default", "service"]
    assert have(service(), administrator="brand_new")["changed"] is False


def test_unknown_passwords_are_a_problem_that_says_what_to_do(have: Any, private_redis: PrivateRedis) -> None:
    private_redis.password_file.write_text("lost\n")
    assert "stop Redis and run again" in have(administrator="guess")["problem"]
