"""The servers that are compared: each on one core, filled with the same sessions, asked for them over HTTP."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.integration.service_process import TOKEN, ServiceProcess
from tests.servers import RedisServer, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
COMPETITORS = ROOT / ".cache" / "bench-venv" / "bin"
"""Where `scripts/bootstrap bench` puts what requirements/bench.txt locks."""

SERVICE_CORE, LOAD_CORE = 0, 1
START_LIMIT = 20.0
_TICKS = os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """What is started within inherits this core; a machine that has only one leaves nothing to choose."""
    before = os.sched_getaffinity(0)
    if len(before) > 1:
        os.sched_setaffinity(0, {sorted(before)[core]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass
class Application:
    """A server that runs: its port, its processes, and the raw requests that it can be asked, by kind."""

    name: str
    port: int
    pid: int
    requests: dict[str, list[bytes]] = field(default_factory=dict)

    def processor_seconds(self) -> float:
        """Processor time of all its processes until now: rates per second of it do not depend on who else runs."""
        return sum(_spent(pid) for pid in _family(self.pid))

    def resident_bytes(self) -> int:
        """Resident memory of all its processes."""
        return sum(_resident(pid) for pid in _family(self.pid))


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [pid, *[found for child in children.split() for found in _family(int(child))]]


def _spent(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _resident(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def request(method: str, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """A request as it goes over the wire."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *[f"{name}: {value}" for name, value in headers.items()]]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


@contextlib.contextmanager
def service(directory: Path, redis: RedisServer, data: dict[str, Any], number: int, **settings: str) -> Iterator[Any]:
    """`session-ops serve` with `number` sessions. Updates ask for no body, since the others answer none."""
    with on_core(SERVICE_CORE):
        process = ServiceProcess(directory, redis, **settings).start()
    try:
        with process.client() as client:
            answers = [client.post("/v1/sessions", json={"user_id": "ada", "data": data}) for _ in range(number)]
        paths = [answer.raise_for_status().headers["location"] for answer in answers]
        token = {"Authorization": f"Bearer {TOKEN}"}
        minimal, change = {**token, "Prefer": "return=minimal"}, b'{"data":{"visits":18}}'
        yield Application(
            "session-ops",
            process.port,
            process.pid,
            {
                "get": [request("GET", path, token) for path in paths],
                "update": [request("PATCH", path, minimal, change) for path in paths],
                "update with answer": [request("PATCH", path, token, change) for path in paths],
                "empty": [request("GET", "/healthz", {})],
            },
        )
    finally:
        process.stop()
        process.close()


@contextlib.contextmanager
def competitor(name: str, redis_url: str, data: dict[str, Any], number: int) -> Iterator[Application]:
    """One of the applications in `competitors`, with `number` sessions in cookies (none for the empty one)."""
    port = free_port()
    with on_core(SERVICE_CORE):
        process = subprocess.Popen(
            [COMPETITORS / word if first else word for first, word in _first(_COMMANDS[name](port))],
            cwd=ROOT,
            env={**os.environ, "REDIS_URL": redis_url},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # they complain of every connection that the load generator drops at its end
        )
    try:
        _await(name, process, port)
        if number == 0:
            requests = {"get": [request("GET", "/", {})]}
        else:
            cookies = [_session(port, data) for _ in range(number)]
            change = b'{"visits":18}'
            requests = {
                "get": [request("GET", "/", {"Cookie": cookie}) for cookie in cookies],
                "update": [request("POST", "/", {"Cookie": cookie}, change) for cookie in cookies],
            }
        yield Application(name, port, process.pid, requests)
    finally:
        process.terminate()
        process.wait()


_PACKAGE = "tests.bench.competitors"
# Of one and two workers, sync and with 4 or 8 threads each, one with 4 threads was the fastest on one core
_GUNICORN = ["gunicorn", "--log-level", "warning", "-k", "gthread", "-w", "1", "--threads", "4", "-b"]
_UVICORN = ["uvicorn", "--no-access-log", "--log-level", "warning", "--port"]
_COMMANDS = {
    "Flask-Session": lambda port: [*_GUNICORN, f"127.0.0.1:{port}", f"{_PACKAGE}.flask_session_app"],
    "django-redis": lambda port: [*_GUNICORN, f"127.0.0.1:{port}", f"{_PACKAGE}.django_app"],
    "starsessions": lambda port: [*_UVICORN, str(port), f"{_PACKAGE}.starsessions_app:application"],
    "bare uvicorn": lambda port: [*_UVICORN, str(port), f"{_PACKAGE}.empty_app:application"],
}


def _first(words: list[str]) -> list[tuple[bool, str]]:
    return [(index == 0, word) for index, word in enumerate(words)]


def _await(name: str, process: subprocess.Popen[bytes], port: int) -> None:
    limit = time.monotonic() + START_LIMIT
    while time.monotonic() < limit and process.poll() is None:
        with contextlib.suppress(OSError):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            connection.request("GET", "/")
            connection.getresponse().read()
            return
        time.sleep(0.05)
    raise RuntimeError(f"{name} did not start: run its command by hand, `{' '.join(_COMMANDS[name](port))}`")


def _session(port: int, data: dict[str, Any]) -> str:
    """Make a session and return its cookie; what it holds is read back."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("POST", "/", json.dumps(data), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    cookie = (answer.headers["Set-Cookie"] or "").partition(";")[0]
    connection.request("GET", "/", headers={"Cookie": cookie})
    held = json.loads(connection.getresponse().read())
    connection.close()
    if held != data:
        raise RuntimeError(f"the server on port {port} does not keep sessions: {held}")
    return cookie


def shuffled(requests: list[bytes], number: int) -> list[bytes]:
    """So many of the requests, drawn at random."""
    return random.choices(requests, k=number)  # noqa: S311 - no secret
