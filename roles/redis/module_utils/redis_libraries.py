"""Function libraries: those of a folder on the host, and those that a running Redis has."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ansible.module_utils.redis_client import Client


def library_files(directory: str) -> list[pathlib.Path]:
    """Return the libraries of a folder, files named `*.lua`."""
    return sorted(pathlib.Path(directory).glob("*.lua"))


def lacking(client: Client, directory: str) -> list[pathlib.Path]:
    """Return the libraries of a folder that Redis does not have, or has with other code; one round trip."""
    libraries = client.call("FUNCTION", "LIST", "WITHCODE")
    known = {dict(zip(library[::2], library[1::2], strict=True))["library_code"] for library in libraries}
    return [file for file in library_files(directory) if file.read_text(encoding="utf-8") not in known]
