"""Several workers behind one socket: starts them, starts dead ones again, passes signals on, and stops them all."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from typing import TYPE_CHECKING

from session_ops.logs import get_logger
from session_ops.serve.worker import Announcements, Worker

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from session_ops.metrics import Metrics
    from session_ops.settings import Settings

_SIGNALS = (signal.SIGCHLD, signal.SIGHUP, signal.SIGTERM, signal.SIGINT)
START_LIMIT = 30.0
"""Seconds that a worker may take until it listens."""

KILL_AFTER = 2.0
"""Seconds beyond the drain timeout after which a worker is killed."""

FIRST_PAUSE, LONGEST_PAUSE, STEADY = 0.1, 5.0, 10.0
"""A worker that died comes back after 0.1 s; one that keeps dying within 10 s ever later, at most after 5 s."""


class _Slot:
    """A worker's place: its process now, and how it fared."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.pid = 0
        self.since = 0.0
        self.pause = FIRST_PAUSE
        self.due: float | None = None


class Supervisor:
    """Runs in the main process. Signals stay blocked and are taken one by one, so there is nothing to race with."""

    def __init__(
        self,
        settings: Settings,
        sock: socket.socket,
        announcements: Announcements,
        metrics_directory: Path,
        metrics: Metrics,
    ) -> None:
        """`metrics` are the supervisor's own, in the same directory as the workers'."""
        self._settings = settings
        self._socket = sock
        self._announcements = announcements
        self._directory = metrics_directory
        self._metrics = metrics
        self._slots = [_Slot(number) for number in range(settings.session_workers)]
        self._alive_read, self._alive_write = os.pipe()
        self._log = get_logger()

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT; the exit status. A worker that cannot even start ends everything."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        for slot in self._slots:
            status = self._start(slot)
            if status != 0:
                self._stop()
                return status
        self._announcements.ready()
        while True:
            received = signal.sigtimedwait(_SIGNALS, self._patience())
            number = received.si_signo if received else None
            if number in (signal.SIGTERM, signal.SIGINT):
                self._announcements.stopping()
                self._stop()
                return 0
            if number == signal.SIGHUP:
                self._announcements.reloading()
                self._pass_on(signal.SIGHUP)
                self._announcements.ready()
            self._reap()
            self._start_due()

    def _start(self, slot: _Slot) -> int:
        """Fork a worker and wait until it listens; 0, or the exit status of one that did not get so far."""
        ready_read, ready_write = os.pipe()
        slot.pid = os.fork()
        if slot.pid == 0:
            os.close(ready_read)
            os.close(self._alive_write)
            self._be_worker(slot.number, ready_write)
        os.close(ready_write)
        slot.since, slot.due = time.monotonic(), None
        readable, _, _ = select.select([ready_read], [], [], START_LIMIT)
        listens = bool(readable) and os.read(ready_read, 1) == b"1"
        os.close(ready_read)
        if listens:
            return 0
        with contextlib.suppress(ProcessLookupError):
            os.kill(slot.pid, signal.SIGKILL)
        _, status = os.waitpid(slot.pid, 0)
        slot.pid = 0
        code = os.waitstatus_to_exitcode(status)
        self._log.error("worker_did_not_start", worker=slot.number, status=code)
        return code if code > 0 else 1

    def _be_worker(self, number: int, ready: int) -> None:
        """The child's whole life; never returns."""
        code = 1
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            worker = Worker(
                self._settings,
                self._socket,
                _Pipe(ready),
                metrics_directory=self._directory,
                number=number,
                alive=self._alive_read,
            )
            worker.run()
            code = 0
        except Exception as error:  # noqa: BLE001 - nothing may come back into the parent's code
            self._log.error("worker_failed", worker=number, error=type(error).__name__, detail=str(error))
        finally:
            os._exit(code)

    def _reap(self) -> None:
        """Take note of workers that died."""
        for slot in self._slots:
            if not slot.pid:
                continue
            pid, status = os.waitpid(slot.pid, os.WNOHANG)
            if pid == 0:
                continue
            steady = time.monotonic() - slot.since > STEADY
            slot.pause = FIRST_PAUSE if steady else min(LONGEST_PAUSE, slot.pause * 2)
            slot.pid, slot.due = 0, time.monotonic() + slot.pause
            self._log.error("worker_died", worker=slot.number, status=os.waitstatus_to_exitcode(status))

    def _start_due(self) -> None:
        for slot in self._slots:
            if slot.due is not None and slot.due <= time.monotonic():
                self._metrics.count("session_ops_worker_restarts_total")
                if self._start(slot) != 0:
                    slot.pause = min(LONGEST_PAUSE, slot.pause * 2)
                    slot.due = time.monotonic() + slot.pause

    def _patience(self) -> float:
        """Seconds until something is due without a signal."""
        due = [slot.due for slot in self._slots if slot.due is not None]
        return max(0.0, min(due) - time.monotonic()) if due else 3600.0

    def _pass_on(self, number: signal.Signals) -> None:
        for slot in self._slots:
            if slot.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(slot.pid, number)

    def _stop(self) -> None:
        """Let all workers drain at once, and kill those that cannot."""
        self._pass_on(signal.SIGTERM)
        limit = time.monotonic() + self._settings.session_drain_timeout + KILL_AFTER
        while any(slot.pid for slot in self._slots):
            for slot in self._slots:
                if slot.pid and os.waitpid(slot.pid, os.WNOHANG)[0]:
                    slot.pid = 0
            left = limit - time.monotonic()
            if left <= 0:
                self._pass_on(signal.SIGKILL)
                limit = float("inf")
                left = 1.0
            if any(slot.pid for slot in self._slots):
                signal.sigtimedwait((signal.SIGCHLD,), min(left, 1.0))


class _Pipe(Announcements):
    """Tells the supervisor that this worker listens."""

    def __init__(self, ready: int) -> None:
        self._ready: int | None = ready

    def ready(self) -> None:
        if self._ready is not None:
            os.write(self._ready, b"1")
            os.close(self._ready)
            self._ready = None
