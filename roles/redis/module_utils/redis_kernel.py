"""The kernel settings Redis warns about, set now and for the next boot, where the host allows them."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re

from ansible.module_utils.redis_host_files import Ownership, ensure_file

_HEADER = "# Kernel settings for Redis, written by session-ops.\n"
_HUGEPAGE = "sys/kernel/mm/transparent_hugepage/enabled"


@dataclasses.dataclass(frozen=True)
class Setting:
    """One kernel setting: its name, its file, and what it should be."""

    name: str
    path: pathlib.Path
    wanted: str

    @property
    def value(self) -> str:
        """What to write."""
        return self.wanted.removeprefix(">=").split("|")[0]

    def current(self) -> str | None:
        """Return the value in force; None where this kernel has no such setting."""
        try:
            text = self.path.read_text(encoding="ascii").strip()
        except OSError:
            return None
        chosen = re.search(r"\[(\w+)\]", text)  # always [madvise] never
        return chosen[1] if chosen else text

    def satisfied(self) -> bool:
        """Say whether the value in force will do; a setting the kernel does not have needs nothing."""
        current = self.current()
        if current is None:
            return True
        if self.wanted.startswith(">="):
            return int(current) >= int(self.value)
        return current in self.wanted.split("|")

    def settable(self) -> bool:
        """Say whether the host lets this be changed: in a container /proc/sys and /sys are mounted read-only."""
        return os.access(self.path, os.W_OK)

    def persistent(self) -> str:
        """Return the line that sets it at boot."""
        if self.name == "transparent_hugepage":
            return f"w- /{_HUGEPAGE} - - - - {self.value}"
        return f"-{self.name} = {self.value}"


@dataclasses.dataclass(frozen=True)
class Tuned:
    """What was changed, or would be, and which settings this host refuses to change."""

    diff: list[dict[str, str]]
    refused: list[Setting]

    def warnings(self) -> list[str]:
        """Return a sentence for each refused setting."""
        return [
            f"{setting.name} is {setting.current()}, Redis wants {setting.wanted}, and this host refuses to change it "
            "(a container?): set it on the machine beneath."
            for setting in self.refused
        ]


def located(settings: dict[str, object], root: pathlib.Path) -> list[Setting]:
    """Return the settings with the files that stand for them."""
    places = {
        name: _HUGEPAGE if name == "transparent_hugepage" else f"proc/sys/{name.replace('.', '/')}" for name in settings
    }
    return [Setting(name, root / places[name], str(wanted)) for name, wanted in settings.items()]


def put(setting: Setting) -> bool:
    """Write the value; says whether the kernel took it."""
    try:
        setting.path.write_text(setting.value, encoding="ascii")
    except OSError:
        return False
    return setting.satisfied()


def tune(settings: list[Setting], persistent_files: tuple[str, str], *, check: bool) -> Tuned:
    """Set what differs and keep what can be set over a boot; with `check` only say what would change.

    `persistent_files` are for systemd-sysctl and for systemd-tmpfiles. A host that does not let its kernel be changed,
    such as a container, is left alone: its settings are in the answer's `refused`.
    """
    settable = [setting for setting in settings if setting.settable()]
    refused = [setting for setting in settings if setting not in settable and not setting.satisfied()]
    diff: list[dict[str, str]] = []
    for setting in settable:
        before = setting.current()
        if setting.satisfied():
            continue
        if not check and not put(setting):
            refused.append(setting)
            continue
        diff.append({"before": f"{setting.name} = {before}\n", "after": f"{setting.name} = {setting.value}\n"})
    kept = [setting for setting in settable if setting not in refused]
    sysctl = [setting.persistent() for setting in kept if setting.name != "transparent_hugepage"]
    tmpfiles = [setting.persistent() for setting in kept if setting.name == "transparent_hugepage"]
    for path, lines in zip(persistent_files, (sysctl, tmpfiles), strict=True):
        if not lines:
            continue
        content = _HEADER + "".join(f"{line}\n" for line in lines)
        old = ensure_file(pathlib.Path(path), content, Ownership("root", "root", "0644"), check=check)
        if old is not None:
            diff.append({"before": old, "after": content, "before_header": path, "after_header": path})
    return Tuned(diff, refused)
