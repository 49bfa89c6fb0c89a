"""A Redis host: package, files, the settings that Redis says it has, its users, its functions, the kernel below it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.hosts.expectations import ROOT, Expectations, redis_value
from tests.hosts.probes import Entry, ask_redis, differing

if TYPE_CHECKING:
    from testinfra.host import Host

testinfra_hosts = ["ansible://redis?sudo=true"]

# What no user of the service may ever do: code from outside, listings that block, settings, other users' data.
FORBIDDEN = ["EVAL return 0", "KEYS *", "SCAN 0", "CONFIG GET *", "ACL LIST", "FLUSHALL", "FUNCTION FLUSH", "GET other"]


@pytest.fixture(scope="module")
def answers(host: Host, expected: Expectations) -> dict[str, Any]:
    """Everything the tests below ask of Redis, in one connection."""
    service, administrator = expected["redis_service_user"], expected["redis_administrator_user"]
    questions = {
        "settings": "CONFIG GET *",
        "users": "ACL USERS",
        "default": "ACL GETUSER default",
        "service": f"ACL GETUSER {service}",
        "administrator": f"ACL GETUSER {administrator}",
        "libraries": "FUNCTION LIST WITHCODE",
    } | {command: f"ACL DRYRUN {service} {command}" for command in FORBIDDEN}
    return dict(zip(questions, ask_redis(host, expected, *questions.values()), strict=True))


def test_the_package_is_installed(host: Host, expected: Expectations) -> None:
    package = expected["redis_package"]
    state = host.run("dpkg-query --show --showformat='${db:Status-Status}' %s", package).stdout
    assert state == "installed", f"package {package} is {state or 'unknown'}"


def test_files_and_directories_have_their_owners_and_modes(host: Host, expected: Expectations) -> None:
    user, configuration = expected["redis_package"].partition("-")[0], expected["redis_configuration_directory"]
    wanted = {
        expected["redis_data_directory"]: Entry("directory", "0750", user, user),
        # Redis rewrites the last two itself, under its own umask.
        f"{configuration}/administrator.password": Entry("regular file", "0600", "root", "root"),
        f"{configuration}/users.acl": Entry("regular file", "0640|0600", user, user),
        f"{configuration}/{user}.conf": Entry("regular file", "0640|0600", user, user),
    }
    wrong = differing(host, wanted)
    assert wrong == [], "; ".join(wrong)


def test_redis_runs_with_the_settings_of_the_inventory(expected: Expectations, answers: dict[str, Any]) -> None:
    wanted = {
        "port": expected["redis_port"],
        "bind": " ".join(expected["redis_bind_addresses"]),
        "dir": expected["redis_data_directory"],
        "maxmemory": expected["redis_maxmemory"],
        "maxmemory-policy": expected["redis_maxmemory_policy"],
        "databases": expected["redis_databases"],
        "appendonly": expected["redis_appendonly"],
        "appendfsync": expected["redis_appendfsync"],
        "hash-max-listpack-value": expected["redis_hash_max_listpack_value"],
        "hash-max-listpack-entries": expected["redis_hash_max_listpack_entries"],
        # What the hosts know a Redis by changes when its data may have, and at no other time (docs/ownership.md, 2).
        "enable-debug-command": "no",
        "repl-backlog-ttl": 0,
        "aclfile": f"{expected['redis_configuration_directory']}/users.acl",
    } | expected["redis_extra_settings"]
    wanted = {name: redis_value(value) for name, value in wanted.items()}
    wrong = {name: answers["settings"].get(name) for name in wanted if answers["settings"].get(name) != wanted[name]}
    assert wrong == {}, f"the inventory wants { ({name: wanted[name] for name in wrong}) }"


def test_redis_has_just_the_users_of_the_inventory(expected: Expectations, answers: dict[str, Any]) -> None:
    wanted = {"default", expected["redis_administrator_user"], expected["redis_service_user"]}
    wanted |= {user["name"] for user in expected["redis_extra_acl_users"]}
    assert set(answers["users"]) == wanted, "users of Redis; see `ACL LIST`"


def test_nobody_can_log_in_as_the_default_user_whose_rights_replay_the_aof(answers: dict[str, Any]) -> None:
    default = answers["default"]
    assert "off" in default["flags"], f"the default user is {default['flags']}"
    assert "nopass" not in default["flags"], "the default user needs no password"
    assert not default["passwords"], "the default user has a password"
    # Redis replays its AOF with this user's rights: with less, a restart drops every transaction in the file.
    assert default["commands"] == "+@all", f"the AOF is replayed with {default['commands']}: a restart loses writes"
    assert default["keys"] == "~*", f"the AOF is replayed with the keys {default['keys']}: a restart loses writes"


def test_the_service_user_has_just_its_rules(expected: Expectations, answers: dict[str, Any]) -> None:
    user = answers["service"]
    found = {"on"} & set(user["flags"]) | set(f"{user['commands']} {user['keys']} {user['channels']}".split())
    wanted = {"on"} | {rule for rule in expected["redis_service_acl"] if rule not in {"resetchannels", "on"}}
    assert found == wanted, f"rules of {expected['redis_service_user']}"
    assert "nopass" not in user["flags"], f"{expected['redis_service_user']} needs no password"


@pytest.mark.parametrize("secret", ["administrator", "service"])
def test_a_user_has_only_the_password_of_the_inventory(
    expected: Expectations, answers: dict[str, Any], secret: str
) -> None:
    digest = hashlib.sha256(expected[f"redis_{secret}_password"].encode()).hexdigest()
    same = answers[secret]["passwords"] == [digest]  # compared here, so that a failure prints no digest
    assert same, f"user {expected[f'redis_{secret}_user']} has another password, or a second one"


@pytest.mark.parametrize("command", FORBIDDEN)
def test_the_service_user_may_not(answers: dict[str, Any], command: str) -> None:
    assert answers[command] != "OK", f"the service user may {command}"


def test_the_function_libraries_are_loaded_as_released(expected: Expectations, answers: dict[str, Any]) -> None:
    loaded = {library["library_name"]: library["library_code"] for library in answers["libraries"]}
    paths = [Path(str(path)) for path in expected["redis_function_libraries"]]
    wanted = {library_name(path): path.read_text() for path in paths}
    absent = sorted(set(wanted) - set(loaded))
    other = sorted(name for name in set(wanted) & set(loaded) if wanted[name].rstrip() != loaded[name].rstrip())
    assert (absent, other) == ([], []), f"libraries not loaded: {absent}; loaded with other code: {other}"


def test_the_kernel_is_set_as_redis_needs_it_where_the_host_allows(host: Host, expected: Expectations) -> None:
    wanted = expected["redis_kernel_settings"]
    # A container's /proc/sys is mounted read-only: there the setting is the machine's below it.
    script = "; ".join(
        f'[ -w {path} ] && printf "%s=" {name} && cat {path}'
        for name, path in zip(wanted, map(kernel_path, wanted), strict=True)
    )
    found = dict(line.split("=", 1) for line in host.run(script).stdout.splitlines())
    wrong = {name: value for name, value in found.items() if not kernel_suits(value, str(wanted[name]))}
    assert wrong == {}, f"the inventory wants { ({name: wanted[name] for name in wrong}) }"


@pytest.mark.parametrize(
    ("value", "wanted", "suits"),
    [
        ("1", "1", True),
        ("0", "1", False),
        ("4096", ">=511", True),
        ("128", ">=511", False),
        ("always [madvise] never", "madvise|never", True),
        ("[always] madvise never", "madvise|never", False),
    ],
)
def test_a_kernel_setting_is_judged_by_its_rule(value: str, wanted: str, suits: bool) -> None:
    assert kernel_suits(value, wanted) is suits


def kernel_path(name: str) -> str:
    """Where the kernel shows a setting of `redis_kernel_settings`."""
    if name == "transparent_hugepage":
        return "/sys/kernel/mm/transparent_hugepage/enabled"
    return "/proc/sys/" + name.replace(".", "/")


def kernel_suits(value: str, wanted: str) -> bool:
    """Judge a value by a rule: `1`, `>=511`, or `madvise|never` (the kernel marks the one in force by brackets)."""
    chosen = re.search(r"\[(\w+)\]", value)
    value = chosen.group(1) if chosen else value.strip()
    if wanted.startswith(">="):
        return int(value) >= int(wanted[2:])
    return value in wanted.split("|")


def library_name(path: Path) -> str:
    """The name in a library's first line: `#!lua name=NAME`."""
    found = re.match(r"#!lua name=(\w+)", path.read_text())
    assert found, f"{path.relative_to(ROOT)} does not begin with `#!lua name=`"
    return found.group(1)
