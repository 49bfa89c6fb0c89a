"""`session-ops serve --embedded`: a service and its own Redis in one command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx

from tests.integration.service_process import PATIENCE
from tests.servers import free_port


def test_embedded_serves_with_a_redis_of_its_own_and_keeps_its_sessions(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "REDIS_DATA_DIR": str(tmp_path / "data"), "PYTHONUNBUFFERED": "1"}
    ids = []
    for _ in range(2):
        address = f"127.0.0.1:{free_port()}"
        process = subprocess.Popen(
            [sys.executable, "-m", "session_ops.cli", "serve", "--embedded"],
            env={**environment, "SESSION_LISTEN": address},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        token = process.stdout.readline().removeprefix("token: ").strip()
        assert json.loads(process.stderr.readline())["event"] == "worker_started"
        headers = {"authorization": f"Bearer {token}"}
        with httpx.Client(base_url=f"http://{address}", headers=headers, timeout=PATIENCE) as client:
            client.post("/v1/sessions", json={"user_id": "u"})
            ids.append({session["id"] for session in client.get("/v1/sessions").json()["sessions"]})
        second = subprocess.run(
            [sys.executable, "-m", "session_ops.cli", "serve", "--embedded"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (second.returncode, "is in use" in second.stderr) == (2, True)
        process.terminate()
        process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
    assert (len(ids[0]), len(ids[1])) == (1, 2)
    assert ids[0] < ids[1]
