"""`session-ops serve` as systemd starts it: inherited socket, notify socket, settings in the environment."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.servers import SERVICE_PASSWORD, SERVICE_USER, RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable

TOKEN = "canary-token-that-must-never-be-logged"
PATIENCE = 15.0

LAUNCHER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.executable, [sys.executable, "-m", "session_ops.cli", "serve"])
"""


class ServiceProcess:
    """One service. `listener` stays open in the test, as it does in systemd."""

    def __init__(self, directory: Path, redis: RedisServer, **settings: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._notify_path = str(directory / "notify")
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(self._notify_path)
        self._notify.settimeout(PATIENCE)
        grant = {
            "caller": "test",
            "scopes": ["read", "write", "admin"],
            "sha256": hashlib.sha256(TOKEN.encode()).hexdigest(),
        }
        self.environment = {
            "PATH": os.environ["PATH"],
            "NOTIFY_SOCKET": self._notify_path,
            "REDIS_PORT": str(redis.port),
            "REDIS_USERNAME": SERVICE_USER,
            "REDIS_PASSWORD": SERVICE_PASSWORD,
            "SESSION_GENERATION_PREFIX": "1-serve",
            "SESSION_TOKENS": json.dumps([grant]),
            **settings,
        }
        self.apart = httpx.Client(
            base_url=self.url,
            headers={"authorization": f"Bearer {TOKEN}"},
            timeout=PATIENCE,
            limits=httpx.Limits(max_keepalive_connections=0),
        )
        self.lines: list[str] = []
        self._events: queue.Queue[dict[str, Any]] = queue.Queue()
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> Self:
        """Start it and wait for READY=1."""
        self.launch()
        try:
            assert self.notified() == "READY=1"
        except TimeoutError:
            raise AssertionError("".join(self.lines)) from None
        return self

    def launch(self) -> None:
        """Start it and wait for nothing."""
        number = self.listener.fileno()
        self.process = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, str(number)],
            env=self.environment,
            pass_fds=(number,),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        threading.Thread(target=self._read, args=(self.process,), daemon=True).start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.lines.append(line)
            self._events.put(json.loads(line) if line.startswith("{") else {"event": "not_json"})

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def workers(self) -> list[int]:
        """The process ids of the workers."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text(encoding="ascii")
        return [int(pid) for pid in children.split()]

    def notified(self) -> str:
        """The next message to systemd."""
        return self._notify.recv(1024).decode()

    def event(self, name: str) -> dict[str, Any]:
        """Wait for the next log event of this name."""
        limit = time.monotonic() + PATIENCE
        while True:
            event = self._events.get(timeout=max(0.01, limit - time.monotonic()))
            if event["event"] == name:
                return event

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        """The exit status."""
        assert self.process is not None
        return self.process.wait(PATIENCE)

    def stop(self) -> int:
        """TERM, and the exit status."""
        if self.process is not None and self.process.poll() is None:
            self.signal(signal.SIGTERM)
        return self.wait()

    def close(self) -> None:
        """Leave nothing behind."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.apart.close()
        self.listener.close()
        self._notify.close()

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"authorization": f"Bearer {TOKEN}"}, timeout=PATIENCE)

    def get(self, path: str) -> httpx.Response:
        """A request on a connection of its own, so that any worker may answer."""
        return self.apart.get(path)


def total(text: str, name: str, **labels: str) -> float:
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def until(condition: Callable[[], Any]) -> None:
    """Ask until it is so; there is no event to wait for on the far side of a network."""
    limit = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.05)


def answer_to(service: ServiceProcess, parts: list[bytes]) -> bytes:
    with socket.create_connection(("127.0.0.1", service.port), PATIENCE) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for part in parts:
                connection.sendall(part)
                time.sleep(0.005)  # so that they arrive one by one
        except ConnectionError:
            pass
        return answer_on(connection)


def answer_on(connection: socket.socket) -> bytes:
    """One answer, with as much of a body as its head announces."""
    answer = b""
    while True:
        head, end, body = answer.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        if end and len(body) >= (int(length[1]) if length else 0):
            return answer
        received = connection.recv(65536)
        if not received:
            return answer
        answer += received
