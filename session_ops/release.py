"""Which release runs."""

from __future__ import annotations

import sys
from pathlib import Path

from session_ops import __version__

MARKER = ".complete"
"""The file that the installation leaves in a release directory once it is whole."""


def current_release() -> str:
    """The name of the release directory that this Python belongs to; elsewhere the package's version."""
    prefix = Path(sys.prefix).resolve()
    return prefix.name if (prefix / MARKER).exists() else __version__
