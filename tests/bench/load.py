"""Load on an HTTP server: as much as it takes (wrk, closed loop), or so many requests a second (open loop)."""

from __future__ import annotations

import re
import select
import socket
import subprocess
import tempfile
import time
from collections import deque
from random import expovariate

CONNECTIONS = 64
_HEAD_END = b"\r\n\r\n"
_find_length = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE).search
_SCRIPT = """
local requests = {%s}
local at = 0
request = function()
  at = at %% #requests + 1
  return requests[at]
end
"""


class LoadError(Exception):
    """A request was not answered, or not with a 2xx: nothing was measured."""


def peak(port: int, requests: list[bytes], seconds: float, connections: int = CONNECTIONS) -> tuple[float, int]:
    """The rate (answers/s) at which a server answers these requests in turn, and the number of answers.

    wrk's threads take 3 to 4 us per request, a tenth of what the fastest server here takes, so that it is not the
    limit on a core of its own. Raises `LoadError`.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_SCRIPT % ",\n".join(map(_lua, requests)))
        script.flush()
        done = subprocess.run(
            ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}", "-s", script.name,
             f"http://127.0.0.1:{port}/"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    number = re.search(r"(\d+) requests in", done.stdout)
    if done.returncode or rate is None or number is None or re.search(r"Non-2xx|Socket errors", done.stdout):
        raise LoadError(done.stdout + done.stderr)
    return float(rate[1]), int(number[1])


def _lua(text: bytes) -> str:
    return '"' + "".join(chr(byte) if 48 <= byte < 123 and byte != 92 else f"\\{byte:03d}" for byte in text) + '"'


def latencies(
    port: int, requests: list[bytes], rate: float, seconds: float, connections: int = CONNECTIONS
) -> list[float]:
    """Seconds from the moment a request was due to the end of its answer, of requests due at random moments.

    An open loop: when a request is due depends on the clock alone (a Poisson process of `rate` per second), never on
    the answers, and a request that finds no free connection waits with its clock running. A closed loop such as wrk's
    asks less while the server stalls, and leaves out just those waits that the 99th percentile is about (coordinated
    omission). Between requests the process sleeps, to the microsecond, since Redis shares its core. The first fifth of
    the time is not counted. Raises `LoadError`.
    """
    loop = _OpenLoop(port, requests, connections)
    try:
        return loop.run(rate, seconds)
    finally:
        loop.close()


class _OpenLoop:
    """A few sockets, each with one request under way at most."""

    def __init__(self, port: int, requests: list[bytes], connections: int) -> None:
        self._requests = requests
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._free: deque[socket.socket] = deque()
        self._due: dict[int, float] = {}
        self._parts: dict[int, bytes] = {}
        for _ in range(connections):
            sock = socket.create_connection(("127.0.0.1", port), 5)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setblocking(False)
            self._sockets[sock.fileno()] = sock
            self._free.append(sock)
            self._poll.register(sock, select.EPOLLIN)

    def close(self) -> None:
        self._poll.close()
        for sock in self._sockets.values():
            sock.close()

    def run(self, rate: float, seconds: float) -> list[float]:
        clock, poll, waiting = time.perf_counter, self._poll, deque[float]()
        found: list[float] = []
        start = clock()
        counted, stop = start + seconds / 5, start + seconds
        due = start + expovariate(rate)
        at = 0
        while due < stop or waiting or self._due:
            now = clock()
            if now > stop + 5:
                raise LoadError(f"{len(waiting) + len(self._due)} requests were not answered within 5 s")
            while due <= now and due < stop:
                waiting.append(due)
                due += expovariate(rate)
            while waiting and self._free:
                sock = self._free.popleft()
                self._due[sock.fileno()] = waiting.popleft()
                sock.send(self._requests[at % len(self._requests)])
                at += 1
            # select(2) on the epoll descriptor: its timeout counts microseconds, that of epoll_wait(2) milliseconds
            select.select([poll], (), (), max(0.0, min(due - clock(), 0.1)))
            for number, _ in poll.poll(0):
                asked = self._receive(number)
                if asked is not None and asked >= counted:
                    found.append(clock() - asked)
        return found

    def _receive(self, number: int) -> float | None:
        """When the request was due whose answer is now complete."""
        sock = self._sockets[number]
        data = self._parts.pop(number, b"") + sock.recv(65_536)
        head = data.find(_HEAD_END)
        length = _find_length(data, 0, head) if head >= 0 else None
        if head < 0 or len(data) < head + 4 + (int(length[1]) if length else 0):
            if not data:
                raise LoadError("the server closed a connection")
            self._parts[number] = data
            return None
        if not data.startswith(b"HTTP/1.1 20"):
            raise LoadError(data[:200].decode("latin-1"))
        self._free.append(sock)
        return self._due.pop(number)


def percentile(values: list[float], share: float) -> float:
    """The smallest of the values that so large a share of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
