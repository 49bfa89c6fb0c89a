"""The functions library as it is shipped: on a host a unit pipes it through redis-cli, tests load it from here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from session_ops.stores.connection import Connection

LIBRARY: Final = "session_v3"
NO_PIN: Final = b"*"
"""The pin of a caller without a control row: Redis alone keeps the sessions (functions.lua)."""

LIBRARY_FILE: Final = Path(__file__).with_name("functions.lua")


async def load_library(administrator: Connection) -> None:
    """Load the library, or load it again, over a connection that may; raises `StoreUnavailableError`."""
    await administrator.call("FUNCTION", "LOAD", "REPLACE", LIBRARY_FILE.read_text(encoding="utf-8"), change=True)
