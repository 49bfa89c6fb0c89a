"""`session-ops serve --embedded`: a service and both its stores in one command."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import httpx

from tests.integration.service_process import PATIENCE
from tests.servers import free_port

EMBEDDED = [sys.executable, "-m", "session_ops.cli", "serve", "--embedded"]


class Service:
    """`serve --embedded` with its files in `directory`, and a client of it."""

    def __init__(self, directory: Path) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self.environment = {
            "PATH": os.environ["PATH"],
            "REDIS_DATA_DIR": str(directory),
            "PYTHONUNBUFFERED": "1",
            "SESSION_LISTEN": self.address,
        }

    def __enter__(self) -> httpx.Client:
        self.process = subprocess.Popen(
            EMBEDDED, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        token = self.process.stdout.readline().removeprefix("token: ").strip()
        while json.loads(self.process.stderr.readline())["event"] != "worker_started":
            pass
        headers = {"authorization": f"Bearer {token}"}
        self.client = httpx.Client(base_url=f"http://{self.address}", headers=headers, timeout=PATIENCE)
        return self.client

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.process.terminate()
        self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Another command in the same environment."""
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)


def test_embedded_serves_with_stores_of_its_own_and_keeps_its_sessions(tmp_path: Path) -> None:
    ids = []
    for generation in (1, 2):
        service = Service(tmp_path / "data")
        with service as client:
            created = client.post("/v1/sessions", json={"user_id": "u", "data": {"a": generation}}).json()
            listed = client.get("/v1/sessions").json()["sessions"]
            ids.append({session["id"] for session in listed})
            for session in listed:
                read = client.get(f"/v1/sessions/{session['id']}").json()
                assert (read["data"], read["revision"]) == (session["data"], session["revision"])
            stores = client.get("/readyz").json()["stores"]
            assert (stores["redis"]["state"], stores["redis"]["mode"]) == ("up", "mirror")
            assert (stores["legacy"]["database"], stores["legacy"]["generation"]) == ("sqlite", generation)

            second = service.run(*EMBEDDED)
            assert (second.returncode, "is in use" in second.stderr) == (2, True)
        with contextlib.closing(sqlite3.connect(tmp_path / "data" / "legacy.db")) as legacy:
            row = legacy.execute("SELECT owner, generation FROM sessions WHERE id = ?", (created["id"],)).fetchone()
        assert row == ("redis", generation)
    assert (len(ids[0]), len(ids[1])) == (1, 2)
    assert ids[0] < ids[1]


def test_a_redis_that_an_operator_has_switched_off_stays_off(tmp_path: Path) -> None:
    service = Service(tmp_path)
    with service as client:
        created = client.post("/v1/sessions", json={"user_id": "u"}).json()
        url = f"sqlite:///{tmp_path}/legacy.db"
        service.environment["LEGACY_DATABASE_URL"] = url
        bumped = service.run(*EMBEDDED[:3], "generation", "bump", "--no-redis", "--execute")
        assert bumped.returncode == 0, bumped.stderr
        refused = service.run(*EMBEDDED)
        assert (refused.returncode, "LEGACY_DATABASE_URL" in refused.stderr) == (2, True)

    with Service(tmp_path) as client:
        assert client.get(f"/v1/sessions/{created['id']}").json()["revision"] == created["revision"]
        legacy = client.get("/readyz").json()["stores"]["legacy"]
        assert (legacy["generation"], legacy["redis"]) == (2, "off")


def test_a_legacy_store_that_cannot_be_used_is_named_and_left_alone(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "legacy.db")) as legacy:
        legacy.execute("CREATE TABLE sessions (id TEXT PRIMARY KEY, something TEXT)")
        before = list(legacy.iterdump())

        refused = Service(tmp_path).run(*EMBEDDED)

        assert refused.returncode == 2
        assert "legacy.db is its legacy store" in refused.stderr
        assert "Traceback" not in refused.stderr
        assert list(legacy.iterdump()) == before
