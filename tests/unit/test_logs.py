"""Logs: one JSON object per line, no whole session id."""

from __future__ import annotations

import subprocess
import sys

import msgspec

from session_ops.logs import short_id

PROGRAM = """
import logging
from session_ops.logs import configure_logs, get_logger
log = get_logger()
configure_logs("info")
log.info("flag_read", session_redis_percent=10)
log.debug("not_shown")
logging.getLogger("uvicorn.error").warning("Invalid %s", "request")
logging.getLogger("uvicorn.error").info("chatter")
"""


def test_every_event_is_one_line_of_json_on_stderr_and_libraries_speak_in_the_same_form() -> None:
    # A process of its own, since the configuration holds for a whole process.
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    ours, library = (msgspec.json.decode(line) for line in done.stderr.splitlines())
    assert (ours["event"], ours["level"], ours["session_redis_percent"]) == ("flag_read", "info", 10)
    assert (library["event"], library["logger"], library["message"]) == (
        "library_message",
        "uvicorn.error",
        "Invalid request",
    )
    assert done.stdout == ""


def test_an_id_is_shortened() -> None:
    assert short_id("0123456789abcdef") == "012345…"
