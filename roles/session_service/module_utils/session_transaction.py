"""A change of configuration and release that is either kept or taken back as a whole.

`save` keeps what was there; `commit` forgets it once the service is ready with the new state; `restore` brings it back.
A run that was cut short leaves the saved state in place, so the next one still knows the last good state.
"""

from __future__ import annotations

import dataclasses
import grp
import json
import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ansible.module_utils.session_releases import replace_link

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A file as it should be. `content` None: it should not be there."""

    path: Path
    content: str | None
    mode: int = 0o644
    group: str = "root"
    secret: bool = False

    def differs(self) -> bool:
        """Say whether the host has anything else than this."""
        present = read(self.path)
        if self.content is None or present != self.content:
            return present != self.content
        status = self.path.stat()
        return (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) != (
            os.geteuid(),
            group_id(self.group),
            self.mode,
        )

    def difference(self) -> dict[str, str]:
        """What `--diff` shows. A secret only says that it changes."""
        before, after = read(self.path), self.content
        if self.secret:
            before, after = before and "(the secret before)\n", after and "(another secret, or other rights)\n"
        header = str(self.path)
        return {"before_header": header, "after_header": header, "before": before or "", "after": after or ""}

    def place(self) -> None:
        """Bring the file to this state in one step."""
        if self.content is None:
            self.path.unlink(missing_ok=True)
            return
        handle, name = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(self.content)
                os.fchown(stream.fileno(), -1, group_id(self.group))
                os.fchmod(stream.fileno(), self.mode)
                stream.flush()
                os.fsync(stream.fileno())
            Path(name).replace(self.path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def read(path: Path) -> str | None:
    """The text of a file, None where there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def group_id(name: str) -> int:
    """The number of a group, -1 while it does not exist (check mode on a fresh host)."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return -1


class Transaction:
    """What was there before a change, kept in one file that only root can read, until the change has proved itself."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def open(self) -> bool:
        """Say whether a change waits to be proved."""
        return self.path.is_file()

    def save(self, files: Iterable[Path], links: Iterable[Path]) -> None:
        """Save the present state, unless that of an unproved change is still there: then that one is the good one."""
        if self.open:
            return
        record: dict[str, dict[str, object]] = {"files": {}, "links": {}}
        for path in files:
            content = read(path)
            status = path.stat() if content is not None else None
            record["files"][str(path)] = status and [
                content,
                grp.getgrgid(status.st_gid).gr_name,
                status.st_mode & 0o7777,
            ]
        for link in links:
            record["links"][str(link)] = str(link.readlink()) if link.is_symlink() else None
        Wanted(self.path, json.dumps(record), 0o600).place()

    def restore(self) -> bool:
        """Bring the saved state back; answers whether there was one."""
        if not self.open:
            return False
        record = json.loads(self.path.read_text(encoding="utf-8"))
        for name, saved in record["files"].items():
            content, group, mode = saved or (None, "root", 0o600)
            file = Wanted(Path(name), content, mode, group)
            # A file that is untouched stays untouched: its age says whether the running service has read it.
            if file.differs():
                file.place()
        for name, target in record["links"].items():
            if target is None:
                Path(name).unlink(missing_ok=True)
            else:
                replace_link(Path(name), target)
        self.commit()
        return True

    def commit(self) -> None:
        """Forget the saved state: the change has proved itself, or was taken back."""
        self.path.unlink(missing_ok=True)
