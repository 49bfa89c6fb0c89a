"""Files on the host: written whole or not at all, so that a run cut short never leaves half of one."""

from __future__ import annotations

import dataclasses
import grp
import os
import pathlib
import pwd
import stat
import tempfile


@dataclasses.dataclass(frozen=True)
class Ownership:
    """Who owns a path and who may use it; `mode` in octal digits."""

    owner: str
    group: str
    mode: str

    def holds(self, path: pathlib.Path) -> bool:
        """Say whether the path has this owner, group and mode. An owner who does not exist yet owns nothing."""
        try:
            wanted = (pwd.getpwnam(self.owner).pw_uid, grp.getgrnam(self.group).gr_gid, int(self.mode, 8))
        except KeyError:
            return False
        status = path.stat()
        return (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == wanted

    def apply(self, path: pathlib.Path) -> None:
        """Give the path its owner, then its mode: changing the owner clears special bits."""
        os.chown(path, pwd.getpwnam(self.owner).pw_uid, grp.getgrnam(self.group).gr_gid)
        path.chmod(int(self.mode, 8))


def read(path: pathlib.Path) -> str | None:
    """Return the text of a file, None when there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return None


def write(path: pathlib.Path, content: str, ownership: Ownership) -> None:
    """Replace the file by one with this content and ownership, in one step (a rename in its folder)."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = pathlib.Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        ownership.apply(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def ensure_file(path: pathlib.Path, content: str, ownership: Ownership, *, check: bool) -> str | None:
    """Bring the file to this content and ownership; with `check` only look.

    Returns None when nothing differs, else the text that was there before ("" for a new file).
    """
    before = read(path)
    if before == content:
        if ownership.holds(path):
            return None
        if not check:
            ownership.apply(path)
        return before
    if not check:
        write(path, content, ownership)
    return before or ""


def ensure_directory(path: pathlib.Path, ownership: Ownership, *, check: bool) -> bool:
    """Bring the folder to this ownership, making it if need be; with `check` only look. Says whether it differed."""
    if path.is_dir() and ownership.holds(path):
        return False
    if not check:
        path.mkdir(parents=True, exist_ok=True)
        ownership.apply(path)
    return True
