"""The one listening socket: inherited from systemd, else our own."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from session_ops.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from session_ops.settings import Settings

FIRST_INHERITED = 3
"""sd_listen_fds(3): inherited descriptors begin here."""

BACKLOG = 2048


def listening_socket(settings: Settings, environment: Mapping[str, str]) -> socket.socket:
    """The socket that systemd passed (LISTEN_FDS and LISTEN_PID), else one on SESSION_LISTEN.

    Raises `SettingsError` when neither can be had.
    """
    if environment.get("LISTEN_PID") == str(os.getpid()):
        return _inherited(environment.get("LISTEN_FDS", ""))
    host, port = settings.listen_address
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # SO_REUSEADDR is set: a restart need not wait for the last connections of the one before.
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise SettingsError(f"SESSION_LISTEN: cannot listen on {settings.session_listen}: {error.strerror}") from error


def _inherited(count: str) -> socket.socket:
    if count != "1":
        raise SettingsError(f"LISTEN_FDS: exactly one socket is expected, not {count!r}")
    try:
        inherited = socket.socket(fileno=FIRST_INHERITED)
        listens = inherited.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise SettingsError(f"LISTEN_FDS: descriptor {FIRST_INHERITED} is no socket") from error
    if not listens:
        raise SettingsError(f"LISTEN_FDS: descriptor {FIRST_INHERITED} is no listening socket")
    inherited.set_inheritable(False)
    return inherited
