"""SESSION_AGENT_MANAGER names an entry point of an installed application: the service calls that application."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from tests.integration.service_process import PATIENCE, ServiceProcess, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.servers import RedisServer

APPLICATION = """
import os

class Pool:
    def __init__(self):
        self.file = open(os.environ["SHOP_LOG"], "a", buffering=1)

    async def attach(self, session):
        self.file.write(f"attach {session.id} {session.agent_id}\\n")

    async def release(self, ended):
        self.file.write(f"release {ended.id} {ended.agent_id} {ended.cause}\\n")

    async def state(self, session_id):
        return "unknown"

def broken():
    raise OSError("no pool today")
"""
ENTRY_POINTS = """
[session_ops.agent_manager]
pool = shop_agents:Pool
broken = shop_agents:broken
absent = shop_agents:absent
"""


@pytest.fixture
def application(tmp_path: Path) -> dict[str, str]:
    """An application that is installed, as the environment of a service that finds it."""
    installed = tmp_path / "installed"
    metadata = installed / "shop-1.0.dist-info"
    metadata.mkdir(parents=True)
    (installed / "shop_agents.py").write_text(APPLICATION)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: shop\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(textwrap.dedent(ENTRY_POINTS))
    (tmp_path / "heard").touch()
    return {"PYTHONPATH": str(installed), "SHOP_LOG": str(tmp_path / "heard")}


def test_the_application_hears_of_its_sessions(
    make_service: Callable[..., ServiceProcess], ready_redis: RedisServer, application: dict[str, str], tmp_path: Path
) -> None:
    service = make_service(ready_redis, SESSION_AGENT_MANAGER="pool", SESSION_WORKERS="2", **application).start()

    made = [
        service.apart.post("/v1/sessions", json={"user_id": "ann", "agent_id": f"bot-{n}"}).json()["id"]
        for n in range(6)
    ]
    service.apart.delete(f"/v1/sessions/{made[0]}")
    service.apart.delete("/v1/users/ann/sessions")

    wanted = {f"attach {each} bot-{n}" for n, each in enumerate(made)}
    wanted |= {f"release {each} bot-{n} deleted" for n, each in enumerate(made)}
    heard = tmp_path / "heard"
    until(lambda: set(heard.read_text().splitlines()) >= wanted)
    assert sorted(heard.read_text().splitlines()) == sorted(wanted), (
        "each once: nothing failed, and one cleans at a time"
    )
    assert service.stop() == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pol", "no entry point 'pol' in session_ops.agent_manager; known: absent, broken, logging, pool"),
        ("broken", "'broken' cannot be made: OSError: no pool today"),
        ("absent", "'absent' cannot be made: AttributeError: "),
    ],
)
def test_one_that_cannot_be_made_ends_the_start_with_the_reason(
    application: dict[str, str], name: str, message: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "session_ops.cli", "settings", "--check"],
        env={**application, "SESSION_AGENT_MANAGER": name},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )

    assert done.returncode == 2
    assert done.stderr.startswith(f"session-ops: SESSION_AGENT_MANAGER: {message}")
    assert done.stderr.count("\n") == 1
