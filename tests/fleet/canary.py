"""A canary: a word that is part of every secret, so that one search finds any of them."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import threading
from pathlib import Path

from tests.fleet import lab

SAMPLE_SECONDS = 0.05


def plant() -> str:
    """Give the lab new secrets that all carry one word, and return the word."""
    word = f"canary{secrets.token_hex(8)}"
    values = lab.secrets()
    for name in ("redis_administrator_password", "redis_service_password", "lab_database_password", "lab_token"):
        values[name] = f"{word}-{secrets.token_urlsafe(12)}"
    values["session_service_tokens"][0]["sha256"] = hashlib.sha256(values["lab_token"].encode()).hexdigest()
    for name, text in (("secrets.yml", json.dumps(values, indent=2)), ("token", values["lab_token"])):
        path = lab.STATE / name
        if path.exists():
            path.write_text(text + "\n" if name == "secrets.yml" else text)
    return word


class ProcessWatch(threading.Thread):
    """Looks at all processes of this machine, the lab's containers among them, for a word others could read."""

    def __init__(self, word: str) -> None:
        super().__init__(daemon=True)
        self.word = word.encode()
        self.found: set[str] = set()
        self.samples = 0
        self._enough = threading.Event()

    def run(self) -> None:
        while not self._enough.wait(SAMPLE_SECONDS):
            self.samples += 1
            for process in Path("/proc").iterdir():
                if process.name.isdecimal():
                    self._look_at(process)

    def end(self) -> None:
        """Stop looking; `found` is complete when this returns."""
        self._enough.set()
        self.join()

    def _look_at(self, process: Path) -> None:
        try:
            arguments = (process / "cmdline").read_bytes()
            owner = process.stat().st_uid
            # Only root reads the environment of a root process, and root reads the files anyway.
            environment = b"" if owner in {0, os.geteuid()} else (process / "environ").read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return  # it has ended, or it hides itself even from us
        name = arguments.split(b"\0", 1)[0].decode(errors="replace")
        for place, text in (("arguments", arguments), ("environment", environment)):
            before, word, _ = text.partition(self.word)
            if word:
                # What stands before a secret tells where it came from, and is none itself.
                self.found.add(f"{place} of {name}: {before[-60:].decode(errors='replace')!r}")
