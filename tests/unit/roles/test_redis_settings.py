"""Settings are changed in the running Redis, kept by Redis itself, and only where they differ."""

from __future__ import annotations

import os
import pathlib
import time
from typing import Any

import pytest

from .conftest import PrivateRedis, Runner

MODULE = "roles/redis/library/redis_settings.py"
START_ONLY = ["databases", "aclfile"]


@pytest.fixture
def settle(run_module: Runner, private_redis: PrivateRedis) -> Any:
    def run(settings: dict[str, Any], **more: Any) -> dict[str, Any]:
        return run_module(MODULE, settings=settings, start_only=START_ONLY, **private_redis.login, **more)

    return run


def test_a_changed_setting_is_live_and_kept_and_the_second_run_changes_nothing(
    settle: Any, private_redis: PrivateRedis
) -> None:
    wanted = {"maxmemory": "64mb", "appendfsync": "always", "save": ""}
    first, second = settle(wanted), settle(wanted)
    assert (first["changed"], first["settings"], first["restart"]) == (True, ["appendfsync", "maxmemory"], [])
    assert private_redis.call("CONFIG", "GET", "maxmemory") == ["maxmemory", str(64 * 1024**2)]
    assert "maxmemory 64mb" in private_redis.configuration.read_text()
    assert private_redis.configuration.read_text().startswith("# first line\n")
    assert second["changed"] is False


def test_check_mode_tells_the_difference_and_changes_nothing(settle: Any, private_redis: PrivateRedis) -> None:
    before = private_redis.configuration.read_text()
    result = settle({"maxmemory": "64mb"}, check=True)
    assert result["changed"] is True
    assert result["diff"]["before"] == f"maxmemory {100 * 1024**2}\n"
    assert private_redis.call("CONFIG", "GET", "maxmemory") == ["maxmemory", str(100 * 1024**2)]
    assert private_redis.configuration.read_text() == before


def test_nothing_is_rewritten_when_nothing_differs(settle: Any, private_redis: PrivateRedis) -> None:
    before = private_redis.configuration.stat()
    assert settle({"maxmemory": "100mb"})["changed"] is False
    assert private_redis.configuration.stat().st_ino == before.st_ino


def test_a_spelling_that_only_redis_understands_counts_as_unchanged(settle: Any) -> None:
    assert settle({"appendfsync": "EVERYSEC"})["changed"] is False


def test_one_bad_value_leaves_all_settings_as_they_were(settle: Any, private_redis: PrivateRedis) -> None:
    result = settle({"maxmemory": "64mb", "appendfsync": "sometimes"})
    assert result["failed"] is True
    assert "appendfsync" in result["msg"]
    assert private_redis.call("CONFIG", "GET", "maxmemory") == ["maxmemory", str(100 * 1024**2)]


def test_a_misspelt_setting_is_refused_with_the_nearest_name(settle: Any) -> None:
    result = settle({"maxmemry": "64mb"})
    assert result["failed"] is True
    assert "did you mean maxmemory?" in result["msg"]


def test_a_setting_of_the_start_asks_for_a_restart(settle: Any) -> None:
    result = settle({"databases": 3})
    assert (result["changed"], result["restart"], result["settings"]) == (True, ["databases"], [])


def test_another_data_directory_is_refused(settle: Any, private_redis: PrivateRedis) -> None:
    result = settle({"dir": "/somewhere/else", "maxmemory": "64mb"})
    assert result["failed"] is True
    assert "without its data" in result["msg"]
    assert private_redis.call("CONFIG", "GET", "maxmemory") == ["maxmemory", str(100 * 1024**2)]


def test_a_password_is_hidden_in_the_difference(settle: Any) -> None:
    result = settle({"masterauth": "hunter2"})
    assert result["changed"] is True
    assert "hunter2" not in result["diff"]["after"]


def test_a_process_older_than_its_unit_asks_for_a_restart(settle: Any, tmp_path: pathlib.Path) -> None:
    drop_in, old = tmp_path / "drop-in.conf", tmp_path / "old.conf"
    drop_in.write_text("")
    old.write_text("")
    os.utime(drop_in, (time.time() + 5, time.time() + 5))
    os.utime(old, (time.time() - 60, time.time() - 60))
    result = settle({}, watched_files=[str(drop_in), str(old), str(tmp_path / "absent")])
    assert result["restart"] == [str(drop_in)]


def test_a_redis_that_does_not_listen_here_wants_a_restart_but_check_mode_asks_for_none(
    run_module: Runner, tmp_path: pathlib.Path
) -> None:
    arguments = {
        "settings": {},
        "socket": str(tmp_path / "none"),
        "administrator": "a",
        "password_file": str(tmp_path / "p"),
    }
    assert run_module(MODULE, **arguments)["restart"] == ["unixsocket"]
    assert run_module(MODULE, check=True, **arguments)["restart"] == []


def test_a_wrong_password_says_what_to_do(settle: Any, private_redis: PrivateRedis) -> None:
    private_redis.password_file.write_text("wrong\n")
    result = settle({})
    assert result["failed"] is True
    assert "administrator.password" in result["msg"]
    assert "wrong\n" not in result["msg"]


def test_libraries_that_redis_lacks_are_told_on_the_same_connection(settle: Any, private_redis: PrivateRedis) -> None:
    folder = private_redis.folder / "functions"
    folder.mkdir()
    code = "#!lua name=tiny_v1\nredis.register_function('tiny_v1_echo', function(keys, args) return args[1] end)\n"
    (folder / "tiny_v1.lua").write_text(code)
    assert settle({})["lacking"] is False
    assert settle({}, libraries=str(folder))["lacking"] is True
    private_redis.call("FUNCTION", "LOAD", code)
    assert settle({}, libraries=str(folder))["lacking"] is False
    (folder / "tiny_v1.lua").write_text(code.replace("args[1]", "args[2]"))
    assert settle({}, libraries=str(folder))["lacking"] is True
