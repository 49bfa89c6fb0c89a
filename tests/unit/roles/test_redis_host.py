"""What the Redis role does to a host's files, kernel settings, packages and function libraries."""

from __future__ import annotations

import contextlib
import importlib
import os
import pathlib
import subprocess
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from tests.servers import free_port

from .conftest import ADMINISTRATOR, ROOT, PrivateRedis, Runner, load

MODULE = "roles/redis/library/redis_host.py"
packages = importlib.import_module("ansible.module_utils.redis_packages")
LIBRARY = "#!lua name=tiny_v1\nredis.register_function('tiny_v1_echo', function(keys, args) return args[1] end)\n"


def test_files_and_folders_are_made_once(run_module: Runner, tmp_path: pathlib.Path, me: str) -> None:
    file = {"path": str(tmp_path / "a/b.conf"), "content": "x\n", "owner": me, "group": me, "mode": "0640"}
    arguments = {
        "packages": [],
        "directories": [{"path": str(tmp_path / "a"), "owner": me, "group": me, "mode": "0750"}],
        "files": [file],
    }
    assert run_module(MODULE, check=True, **arguments)["changed"] is True
    assert not (tmp_path / "a").exists()
    first = run_module(MODULE, **arguments)
    assert first["paths"] == [str(tmp_path / "a"), str(tmp_path / "a/b.conf")]
    assert (tmp_path / "a/b.conf").stat().st_mode & 0o777 == 0o640
    assert run_module(MODULE, **arguments)["changed"] is False
    (tmp_path / "a/b.conf").chmod(0o666)
    assert run_module(MODULE, **arguments)["paths"] == [str(tmp_path / "a/b.conf")]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.conf"]


@pytest.fixture
def kernel(tmp_path: pathlib.Path, run_module: Runner) -> Any:
    for name, value in {
        "proc/sys/vm/overcommit_memory": "0\n",
        "proc/sys/net/core/somaxconn": "4096\n",
        "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(value)

    def run(*, check: bool = False, **settings: str) -> dict[str, Any]:
        return run_module(
            MODULE,
            check=check,
            packages=[],
            kernel={name.replace("__", "."): value for name, value in settings.items()},
            sysctl_file=str(tmp_path / "sysctl.conf"),
            tmpfiles_file=str(tmp_path / "tmpfiles.conf"),
            kernel_root=str(tmp_path),
        )

    return run


def test_a_kernel_setting_is_set_now_and_for_the_next_boot(kernel: Any, tmp_path: pathlib.Path) -> None:
    assert kernel(vm__overcommit_memory="1", check=True)["changed"] is True
    assert (tmp_path / "proc/sys/vm/overcommit_memory").read_text() == "0\n"
    assert kernel(vm__overcommit_memory="1")["changed"] is True
    assert (tmp_path / "proc/sys/vm/overcommit_memory").read_text() == "1"
    assert "-vm.overcommit_memory = 1\n" in (tmp_path / "sysctl.conf").read_text()
    assert kernel(vm__overcommit_memory="1")["changed"] is False


def test_a_value_that_will_do_is_left_alone(kernel: Any, tmp_path: pathlib.Path) -> None:
    kernel(net__core__somaxconn=">=511", transparent_hugepage="never|madvise", vm__swappiness="1")
    assert (tmp_path / "proc/sys/net/core/somaxconn").read_text() == "4096\n"
    assert (tmp_path / "sys/kernel/mm/transparent_hugepage/enabled").read_text() == "always [madvise] never\n"


def test_a_host_that_refuses_is_named_and_gets_no_file(
    kernel: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        importlib.import_module("ansible.module_utils.redis_kernel").Setting, "settable", lambda _: False
    )
    result = kernel(vm__overcommit_memory="1")
    assert (result["changed"], result["refused"]) == (False, ["vm.overcommit_memory"])
    assert not (tmp_path / "sysctl.conf").exists()


@pytest.fixture
def seed(run_module: Runner, tmp_path: pathlib.Path, me: str) -> Any:
    def run(content: str = "# mark\nport 1\n", **more: Any) -> dict[str, Any]:
        first = {"path": str(tmp_path / "redis.conf"), "data_directory": str(tmp_path), "content": content, "owner": me}
        files = [{"path": str(tmp_path / "unit"), "content": "", "owner": me, "group": me}]
        return run_module(MODULE, packages=[], configuration=first, files=files, **more)

    return run


def test_the_configuration_is_seeded_once_and_then_belongs_to_redis(seed: Any, tmp_path: pathlib.Path) -> None:
    (tmp_path / "redis.conf").write_text("# Debian's\nport 1\n")
    assert seed(check=True)["changed"] is True
    assert (tmp_path / "redis.conf").read_text() == "# Debian's\nport 1\n"
    assert seed()["changed"] is True
    (tmp_path / "redis.conf").write_text("# mark\nport 1\nmaxmemory 5mb\n")
    assert seed("# mark\nport 2\n")["changed"] is False
    assert "maxmemory 5mb" in (tmp_path / "redis.conf").read_text()


def test_a_redis_with_data_is_not_taken_over(seed: Any, tmp_path: pathlib.Path) -> None:
    (tmp_path / "redis.conf").write_text("port 1\n")
    (tmp_path / "dump.rdb").write_bytes(b"x" * 4096)
    result = seed()
    assert result["failed"] is True
    assert "dump.rdb" in result["msg"]
    assert (tmp_path / "redis.conf").read_text() == "port 1\n"
    assert not (tmp_path / "unit").exists(), "something was changed before the refusal"


def test_keys_in_the_memory_of_a_running_redis_are_not_given_up(
    seed: Any, private_redis: PrivateRedis, tmp_path: pathlib.Path
) -> None:
    private_redis.call("ACL", "SETUSER", "default", "on", "nopass", "~*", "+@all")
    private_redis.call("SET", "a", "1")
    private_redis.call("CONFIG", "SET", "port", str(port := free_port()))
    (tmp_path / "redis.conf").write_text(f"port {port}\n")
    assert "1 keys in memory" in seed()["msg"]


@pytest.fixture
def libraries(private_redis: PrivateRedis, run_module: Runner) -> Any:
    folder = private_redis.folder / "functions"
    folder.mkdir()
    (folder / "tiny_v1.lua").write_text(LIBRARY)

    def run(**more: Any) -> dict[str, Any]:
        return run_module(
            "roles/redis/library/redis_functions.py", directory=str(folder), **private_redis.login, **more
        )

    return run


def test_a_library_is_loaded_when_redis_has_another_one_or_none(libraries: Any, private_redis: PrivateRedis) -> None:
    assert libraries(check=True)["changed"] is True
    assert private_redis.call("FUNCTION", "LIST") == []
    assert libraries()["changed"] is True
    assert libraries()["changed"] is False
    (private_redis.folder / "functions/tiny_v1.lua").write_text(LIBRARY.replace("args[1]", "args[2]"))
    assert libraries()["changed"] is True
    assert private_redis.call("FCALL", "tiny_v1_echo", "0", "a", "b") == "b"


def test_a_library_with_a_mistake_is_named_with_redis_own_words(libraries: Any, private_redis: PrivateRedis) -> None:
    (private_redis.folder / "functions/tiny_v1.lua").write_text("#!lua name=tiny_v1\nredis.oops(\n")
    result = libraries()
    assert result["failed"] is True
    assert "tiny_v1.lua: ERR" in result["msg"]


def loader(private_redis: PrivateRedis) -> subprocess.CompletedProcess[str]:
    credentials = private_redis.folder / "credentials"
    credentials.mkdir(exist_ok=True)
    (credentials / "administrator-password").write_text(private_redis.password_file.read_text())
    environment = {
        "CREDENTIALS_DIRECTORY": str(credentials),
        "REDIS_CLI": "redis-cli",
        "REDIS_SOCKET": str(private_redis.socket),
        "REDIS_ADMINISTRATOR": ADMINISTRATOR,
        "REDIS_FUNCTIONS": str(private_redis.folder / "functions"),
    }
    script = ROOT / "roles/redis/files/session-functions"
    return subprocess.run(
        ["sh", script], env={**os.environ, **environment}, capture_output=True, text=True, timeout=20, check=False
    )


def test_the_units_loader_loads_every_library_and_fails_on_a_bad_one(
    libraries: Any, private_redis: PrivateRedis
) -> None:
    assert loader(private_redis).stdout == "loaded tiny_v1.lua\n"
    assert private_redis.call("FCALL", "tiny_v1_echo", "0", "a") == "a"
    (private_redis.folder / "functions/worse.lua").write_text("#!lua name=worse\n)\n")
    failed = loader(private_redis)
    assert failed.returncode == 1
    assert "worse.lua: ERR" in failed.stderr


class FakeHost:
    """Stands for AnsibleModule: records commands and answers dpkg-query."""

    def __init__(self, *, installed: list[str], apt: int = 0) -> None:
        self.commands: list[list[str]] = []
        self._installed, self._apt = installed, apt

    def run_command(self, command: list[str], **_: Any) -> tuple[int, str, str]:
        self.commands.append(command)
        if command[0] == "dpkg-query":
            return 0, "".join(f"{name} installed\n" for name in self._installed) + "gone config-files\n", ""
        return self._apt, "", "E: Unable to fetch\n" if self._apt else ""

    def fail_json(self, *, msg: str) -> None:
        raise SystemExit(msg)


def test_a_package_that_left_only_its_configuration_is_missing() -> None:
    assert packages.missing(FakeHost(installed=["here"]), ["here", "gone", "never"]) == ["gone", "never"]


def test_a_package_source_that_fails_says_what_to_do() -> None:
    with pytest.raises(SystemExit, match=r"Unable to fetch.*Make the host's package source reachable"):
        packages.run(FakeHost(installed=[], apt=100), ["apt-get", "update"])


def test_services_stay_off_only_while_packages_are_installed(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = tmp_path / "policy-rc.d"
    monkeypatch.setattr(packages, "_POLICY", policy)
    with contextlib.suppress(KeyError), packages.services_stay_off():
        assert subprocess.run([policy], check=False).returncode == 101
        raise KeyError
    assert not policy.exists()


SETTLED = "ActiveState=active\nUnitFileState=enabled\nNeedDaemonReload=no\n"


@pytest.mark.parametrize(
    ("shown", "settled"),
    [
        (f"{SETTLED}\n{SETTLED}", True),
        (f"{SETTLED}\n{SETTLED.replace('active', 'failed', 1)}", False),
        (f"{SETTLED.replace('enabled', 'disabled')}\n{SETTLED}", False),
        (f"{SETTLED}\n{SETTLED.replace('no', 'yes')}", False),
        (SETTLED, False),
        ("", False),
    ],
)
def test_only_units_that_run_are_enabled_and_read_are_settled(shown: str, settled: bool) -> None:
    class Systemd:
        def run_command(self, _: list[str]) -> tuple[int, str, str]:
            return 0, shown, ""

    assert load(MODULE).settled(Systemd(), ["a.service", "b.service"]) is settled


def test_the_filters_render_settings_for_file_and_command_line() -> None:
    filters = load("roles/redis/filter_plugins/redis_files.py")
    settings = {"save": "", "appendonly": True, "bind": ["a", "b"], "syslog-ident": "50%"}
    assert filters.directives(settings)[:3] == ['save ""', "appendonly yes", "bind a b"]
    assert filters.start_arguments(settings, ["syslog-ident", "databases"]) == "--syslog-ident 50%%"
    assert filters.library_name("#!lua name=session_v3\n...") == "session_v3"
    with pytest.raises(AnsibleFilterError, match="#!lua"):
        filters.library_name("-- no shebang\n")
