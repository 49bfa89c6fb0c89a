"""Releases on a service host: one virtual environment each, and the link `current` to the one in use."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

# Nothing of root's own environment (indexes, proxies, PYTHONPATH) may decide what is installed.
CLEAN_ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
}
# Where the package python3-pip-whl, which python3-venv needs, keeps pip.
DEBIAN_WHEELS = Path("/usr/share/python-wheels")


class ReleaseError(Exception):
    """A release could not be installed or used; the message says why and what to do."""


def replace_link(link: Path, target: str) -> None:
    """Point a link at another target in one step: at every moment the name leads to the old or to the new one.

    `ln -sfn` and Ansible's file module with `force` remove the old link first; a rename over it does not.
    """
    scratch = link.with_name(f".{link.name}.new")
    scratch.unlink(missing_ok=True)
    scratch.symlink_to(target)
    scratch.replace(link)


def python_version(python: str) -> str:
    """Return MAJOR.MINOR of a Python on this host. Raises `ReleaseError` where there is none."""
    program = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        answer = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ReleaseError(f"{python} does not run: install the package python3 ({error})") from error
    return answer.stdout.strip()


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the plain files of a tar file side by side, whatever paths and rights it names.

    Debian 12's Python 3.11.2 has no `extractall(filter=...)` yet.
    """
    with tarfile.open(archive) as bundle:
        for member in bundle:
            content = bundle.extractfile(member)
            if content is not None:
                with (folder / Path(member.name).name).open("wb") as file:
                    shutil.copyfileobj(content, file)


class Releases:
    """The releases below one root: `releases/NAME`, and the links `current` and `previous` beside it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "releases"

    def path(self, name: str) -> Path:
        """Where a release is, or would be."""
        return self.folder / name

    def linked(self, link: str = "current") -> str:
        """The release that a link names, "" where there is no such link."""
        path = self.root / link
        return path.readlink().name if path.is_symlink() else ""

    def complete(self, name: str, python: str) -> bool:
        """Say whether a release was installed to its end, for the Python that the host has now."""
        try:
            record = json.loads((self.path(name) / ".complete").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return bool(record == {"python": python})

    def installed(self, python: str) -> list[str]:
        """The releases that are complete for this Python; none where it does not run."""
        names = sorted(path.name for path in self.folder.iterdir()) if self.folder.is_dir() else []
        try:
            version = python_version(python) if names else ""
        except ReleaseError:
            return []
        return [name for name in names if self.complete(name, version)]

    def install(self, name: str, archive: Path, python: str) -> None:
        """Install a release from an archive of wheels and hash-locked requirements, without any package index.

        The marker `.complete` is written last, so that an installation cut short is never taken for a release. Raises
        `ReleaseError`, and then leaves nothing of it behind.
        """
        target = self.path(name)
        self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=".wheels-", dir=self.folder) as scratch:
            wheels = Path(scratch)
            unpack(archive, wheels)
            try:
                with_pip = self._make_environment(target, python)
                self._run(
                    [
                        *(str(target / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"),
                        *("--no-cache-dir", "--no-compile", "--require-hashes", "--find-links", str(wheels)),
                        *("--requirement", str(wheels / "requirements.txt")),
                    ],
                    "the wheels were refused: rebuild the wheelhouse (scripts/wheelhouse) and run again",
                    with_pip,
                )
                # The service may not write here, so what Python compiles has to be there before. A file that does not
                # compile (for another Python) is of no consequence, as with pip's own compiling.
                compile_all = [
                    str(target / "bin" / "python"),
                    "-m",
                    "compileall",
                    "-q",
                    "-q",
                    "-j",
                    "0",
                    str(target / "lib"),
                ]
                subprocess.run(compile_all, capture_output=True, env=CLEAN_ENVIRONMENT, check=False)
                # The marker may not reach the disk before what it vouches for.
                os.sync()
                (target / ".complete").write_text(json.dumps({"python": python_version(python)}), encoding="utf-8")
            except BaseException:
                shutil.rmtree(target, ignore_errors=True)
                raise

    def switch(self, name: str) -> None:
        """Make a release the one in use; the one before it becomes `previous`."""
        before = self.linked()
        if before and before != name:
            replace_link(self.root / "previous", f"releases/{before}")
        replace_link(self.root / "current", f"releases/{name}")

    def removable(self, keep: int) -> list[str]:
        """The releases beyond the newest `keep`, oldest first; never the one in use nor the one before it."""
        kept = {self.linked("current"), self.linked("previous")}
        complete: list[tuple[int, str]] = []
        broken: list[str] = []
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            marker = path / ".complete"
            if marker.is_file():
                complete.append((marker.stat().st_mtime_ns, path.name))
            else:
                broken.append(path.name)
        newest = [name for _, name in sorted(complete, reverse=True)]
        kept.update(newest[:keep])
        return sorted(set(broken) - kept) + [name for name in reversed(newest) if name not in kept]

    def remove(self, name: str) -> None:
        """Remove a release; its marker goes first, so that half of one is never taken for a whole one."""
        (self.path(name) / ".complete").unlink(missing_ok=True)
        shutil.rmtree(self.path(name))

    def _make_environment(self, target: Path, python: str) -> dict[str, str]:
        """Make the virtual environment; answers the environment in which its Python finds pip.

        Debian's own pip installs from outside: a copy in every release takes half of the installation's time, and
        nothing in production needs it.
        """
        debian_pip = sorted(DEBIAN_WHEELS.glob("pip-*.whl"))
        without = ["--without-pip"] if debian_pip else []
        self._run([python, "-m", "venv", *without, str(target)], "the virtual environment could not be made")
        return {"PYTHONPATH": str(debian_pip[-1])} if debian_pip else {}

    @staticmethod
    def _run(command: list[str], failure: str, environment: dict[str, str] | None = None) -> None:
        result = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**CLEAN_ENVIRONMENT, **(environment or {})},
            check=False,
        )
        if result.returncode != 0:
            raise ReleaseError(f"{failure}\n{result.stdout.strip()[-2000:]}")
