"""Runs the roles' Python as Ansible does, and a private Redis of the shape the role gives a host."""

from __future__ import annotations

import contextlib
import importlib
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import pwd
import select
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import ansible.module_utils
import pytest
from ansible.module_utils.testing import patch_module_args

ROOT = pathlib.Path(__file__).resolve().parents[3]
ADMINISTRATOR = "administrator"
PASSWORD = "the-administrators-own"

# A role's module_utils are packed beside the module when it is sent to a host; here they are found in place.
ansible.module_utils.__path__.append(str(ROOT / "roles/redis/module_utils"))


def load(path: str) -> ModuleType:
    """Import a Python file of a role (or a script) by its path in the repository."""
    name = f"roles_under_test_{path.replace('/', '_').removesuffix('.py').replace('-', '_')}"
    if name in sys.modules:
        return sys.modules[name]
    loader = importlib.machinery.SourceFileLoader(name, str(ROOT / path))
    spec = importlib.util.spec_from_file_location(name, ROOT / path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    loader.exec_module(module)
    return module


Runner = Callable[..., dict[str, Any]]


@pytest.fixture
def run_module(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Runner:
    """Run a module of a role with these arguments and return what Ansible would get."""
    if os.geteuid() != 0:
        files = importlib.import_module("ansible.module_utils.redis_host_files")
        monkeypatch.setattr(files.Ownership, "apply", lambda self, path: path.chmod(int(self.mode, 8)))
        monkeypatch.setattr(
            files.Ownership, "holds", lambda self, path: path.stat().st_mode & 0o7777 == int(self.mode, 8)
        )

    def run(path: str, /, *, check: bool = False, **arguments: Any) -> dict[str, Any]:
        module = load(path)
        capsys.readouterr()
        with patch_module_args({**arguments, "_ansible_check_mode": check}), contextlib.suppress(SystemExit):
            module.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
        return result

    return run


class PrivateRedis:
    """A Redis with a Unix socket, an ACL file and its own configuration file, as the role sets it up."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.socket = folder / "redis.sock"
        self.aclfile = folder / "users.acl"
        self.password_file = folder / "administrator.password"
        self.configuration = folder / "redis.conf"
        self.password_file.write_text(PASSWORD + "\n")
        self.aclfile.write_text(f"user default off ~* &* +@all\nuser {ADMINISTRATOR} on >{PASSWORD} ~* &* +@all\n")
        self.configuration.write_text(
            f"# first line\nport 0\nunixsocket {self.socket}\naclfile {self.aclfile}\ndir {folder}\ndatabases 1\n"
            'maxmemory 100mb\nsave ""\n'
        )
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def login(self) -> dict[str, str]:
        """What every module needs to get in."""
        return {"socket": str(self.socket), "administrator": ADMINISTRATOR, "password_file": str(self.password_file)}

    def start(self) -> None:
        """Start it; returns when it accepts connections, which it says in its log."""
        self.process = subprocess.Popen(["redis-server", str(self.configuration)], stdout=subprocess.PIPE, bufsize=0)
        assert self.process.stdout is not None
        while True:
            ready, _, _ = select.select([self.process.stdout], [], [], 10)
            line = self.process.stdout.readline() if ready else b""
            assert line, "redis-server did not start"
            if b"eady to accept connections" in line:
                return

    def stop(self) -> None:
        """End the process that was started here."""
        if self.process is not None:
            self.process.terminate()
            self.process.communicate(timeout=10)
            self.process = None

    def call(self, *words: str, user: str = ADMINISTRATOR, password: str | None = None) -> Any:
        """Send one command as a user."""
        client = load_client().connect(str(self.socket))
        with contextlib.closing(client):
            client.call("AUTH", user, password or self.password_file.read_text().strip())
            return client.call(*words)


def load_client() -> Any:
    """The client that the modules use."""
    return importlib.import_module("ansible.module_utils.redis_client")


@pytest.fixture
def private_redis(tmp_path: pathlib.Path) -> Iterator[PrivateRedis]:
    """A running private Redis."""
    server = PrivateRedis(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def me() -> str:
    """The user the tests run as: owner of what they write."""
    return pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A TCP listener of this process on a free port of the loopback."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening
