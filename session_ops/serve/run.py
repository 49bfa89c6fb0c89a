"""`session-ops serve`, put together."""

from __future__ import annotations

import contextlib
import gc
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from session_ops.logs import configure_logs
from session_ops.metrics import Metrics
from session_ops.serve.sockets import listening_socket
from session_ops.serve.supervisor import Supervisor
from session_ops.serve.worker import Announcements, Worker

if TYPE_CHECKING:
    from collections.abc import Mapping

    from session_ops.settings import Settings


def serve(settings: Settings, environment: Mapping[str, str]) -> int:
    """Serve until told to stop; the exit status. `environment` is only asked for the inherited socket.

    Raises `SettingsError` before anything listens.
    """
    configure_logs(settings.session_log_level)
    systemd = Systemd(environment.get("NOTIFY_SOCKET", ""))
    # One worker needs no parent; what is wrong with the settings shows here, before any process is made.
    only = settings.session_workers == 1
    sock = listening_socket(settings, environment)
    worker = Worker(settings, sock, systemd if only else Announcements())
    if only:
        worker.run()
        return 0
    with tempfile.TemporaryDirectory(prefix="session-ops-metrics-") as private:
        directory = Path(settings.session_metrics_dir or private)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        gc.freeze()  # shared with the workers for as long as nobody writes to it
        return Supervisor(settings, sock, systemd, directory, Metrics(directory, "supervisor")).run()


class Systemd(Announcements):
    """Tells systemd (Type=notify, sd_notify(3)) through the socket that it names; nothing happens without it."""

    def __init__(self, address: str) -> None:
        # A leading @ is how an abstract socket is written.
        self._address = "\0" + address[1:] if address.startswith("@") else address

    def ready(self) -> None:
        """Listening, or done with a reload."""
        self._notify("READY=1")

    def reloading(self) -> None:
        """Reading the flag."""
        self._notify("RELOADING=1")

    def stopping(self) -> None:
        """Draining."""
        self._notify("STOPPING=1")

    def _notify(self, state: str) -> None:
        if self._address:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                channel.sendto(state.encode(), self._address)
