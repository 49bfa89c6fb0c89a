"""Runs a playbook as an operator does: its titles are shown as they come, all of it is kept, Ctrl-C may end it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from typing import TYPE_CHECKING

from tests.fleet.lab import ENVIRONMENT, INVENTORY, ROOT

if TYPE_CHECKING:
    from pathlib import Path

END_WITHIN = 60.0
"""Seconds that a playbook has to end when it is interrupted."""


class Playbook:
    """One run. `status` is set once it has ended."""

    def __init__(self, name: str, arguments: tuple[str, ...], log: Path) -> None:
        """All that is printed goes to the file `log`."""
        self.status: int | None = None
        self.log = log
        self._command = ["ansible-playbook", "-i", INVENTORY, f"playbooks/{name}", *arguments]
        self._process: asyncio.subprocess.Process | None = None
        self._titles: list[str] = []
        self._news = asyncio.Condition()

    async def run(self) -> int:
        """Start it and wait for its end; the exit code. Whatever ends the waiting ends the playbook as well."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        with self.log.open("w") as log:
            log.write(f"$ {' '.join(self._command)}\n")
            self._process = await asyncio.create_subprocess_exec(
                # A shell lets what it runs in the background ignore SIGINT, and so would everything below it
                "env",
                "--default-signal=INT",
                *self._command,
                cwd=ROOT,
                env=ENVIRONMENT,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                limit=2**20,
            )
            assert self._process.stdout is not None
            try:
                async for line in self._process.stdout:
                    text = line.decode(errors="replace")
                    log.write(text)
                    if text.startswith("PLAY [("):
                        title = text[6:].split("]")[0]
                        print(f"  {time.monotonic() - began:6.1f} s  {title}", flush=True)
                        await self._tell(title)
                self.status = await self._process.wait()
            finally:
                if self.status is None:
                    await self.interrupt()
                    self.status = self._process.returncode
                await self._tell(None)
        return self.status or 0

    async def reached(self, title: str) -> bool:
        """Wait until the play whose title begins so begins; False where the playbook has ended without it."""
        async with self._news:
            await self._news.wait_for(lambda: self.status is not None or self._has(title))
        return self._has(title)

    async def interrupt(self) -> None:
        """Press Ctrl-C, and wait for the end."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        os.killpg(process.pid, signal.SIGINT)
        try:
            async with asyncio.timeout(END_WITHIN):
                await process.wait()
        except TimeoutError:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

    @property
    def words(self) -> str:
        """All that it printed, with the terminal's line breaks undone."""
        return " ".join(self.log.read_text().split())

    def last_words(self) -> str:
        """The end of what it printed."""
        return self.log.read_text()[-3000:]

    def changed(self) -> list[str]:
        """The lines of the recap that say that something changed."""
        recap = self.log.read_text().partition("PLAY RECAP")[2]
        return [line for line in recap.splitlines() if re.search(r"changed=[1-9]", line)]

    def _has(self, title: str) -> bool:
        return any(each.startswith(title) for each in self._titles)

    async def _tell(self, title: str | None) -> None:
        async with self._news:
            self._titles += [title] if title else []
            self._news.notify_all()
