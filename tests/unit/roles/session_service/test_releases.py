"""Releases: installed whole or not at all, switched in one step, and pruned without touching what is in use."""

from __future__ import annotations

import base64
import ensurepip
import hashlib
import json
import os
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest
from ansible.module_utils import session_releases
from ansible.module_utils.session_releases import ReleaseError, Releases, replace_link, unpack

PYTHON = sys.executable


def make_wheel(folder: Path, version: str = "1.0") -> Path:
    """A wheel with one program in it, `session-ops`."""
    files = {
        "session_ops.py": "def main():\n    print('hello')\n",
        f"session_ops-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: session-ops\nVersion: {version}\n",
        f"session_ops-{version}.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"session_ops-{version}.dist-info/entry_points.txt": "[console_scripts]\nsession-ops = session_ops:main\n",
    }
    record = ""
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).rstrip(b"=").decode()
        record += f"{name},sha256={digest},{len(content)}\n"
    wheel = folder / f"session_ops-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in (files | {f"session_ops-{version}.dist-info/RECORD": record}).items():
            archive.writestr(name, content)
    return wheel


def make_archive(folder: Path, *, spoil: bool = False) -> Path:
    """What the action plugin sends: one wheel and the requirements with its hash."""
    wheel = make_wheel(folder)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if spoil:
        content = bytearray(wheel.read_bytes())
        content[40] ^= 1
        wheel.write_bytes(content)
    requirements = folder / "requirements.txt"
    requirements.write_text(f"session-ops==1.0 --hash=sha256:{digest}\n")
    archive = folder / "wheels.tar"
    with tarfile.open(archive, "w") as bundle:
        for path in (wheel, requirements):
            bundle.add(path, path.name)
    return archive


def pretend(releases: Releases, name: str, at: int) -> None:
    """A complete release without anything in it, completed at a given second."""
    releases.path(name).mkdir(parents=True)
    marker = releases.path(name) / ".complete"
    marker.write_text('{"python": "3.11"}')
    os.utime(marker, (at, at))


@pytest.fixture(autouse=True)
def python_brings_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Python itself carries pip's wheel it stands in for the folder in which Debian keeps it."""
    bundled = Path(ensurepip.__file__).parent / "_bundled"
    if bundled.is_dir():
        monkeypatch.setattr(session_releases, "DEBIAN_WHEELS", bundled)


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    return Releases(tmp_path / "root")


def test_an_installed_release_runs_is_complete_and_leaves_no_wheels(releases: Releases, tmp_path: Path) -> None:
    python = session_releases.python_version(PYTHON)
    releases.install("1.0-a", make_archive(tmp_path), PYTHON)
    assert releases.complete("1.0-a", python)
    assert (releases.path("1.0-a") / "bin" / "session-ops").exists()
    assert list(releases.path("1.0-a").rglob("session_ops.*.pyc"))
    assert [path.name for path in releases.folder.iterdir()] == ["1.0-a"]


def test_a_changed_byte_in_a_wheel_is_refused_and_leaves_nothing(releases: Releases, tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="DO NOT MATCH THE HASHES"):
        releases.install("1.0-a", make_archive(tmp_path, spoil=True), PYTHON)
    assert list(releases.folder.iterdir()) == []


def test_a_release_without_its_marker_or_for_another_python_is_not_complete(releases: Releases) -> None:
    pretend(releases, "1.0-a", 1)
    assert releases.complete("1.0-a", "3.11")
    assert not releases.complete("1.0-a", "3.13")
    (releases.path("1.0-a") / ".complete").unlink()
    assert not releases.complete("1.0-a", "3.11")


def test_only_complete_releases_for_the_hosts_python_are_installed(releases: Releases) -> None:
    assert releases.installed(PYTHON) == []
    pretend(releases, "old", 1)
    pretend(releases, "new", 2)
    releases.path("half").mkdir()
    version = session_releases.python_version(PYTHON)
    for name, python in (("old", "3.1"), ("new", version)):
        (releases.path(name) / ".complete").write_text(json.dumps({"python": python}))
    assert releases.installed(PYTHON) == ["new"]
    assert releases.installed("/no/python3") == []


def test_an_archive_cannot_write_outside_its_folder(tmp_path: Path) -> None:
    (tmp_path / "evil").write_text("x")
    with tarfile.open(tmp_path / "a.tar", "w") as bundle:
        bundle.add(tmp_path / "evil", "../../outside")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    unpack(tmp_path / "a.tar", tmp_path / "deep" / "er")
    assert (tmp_path / "deep" / "er" / "outside").exists()
    assert not (tmp_path / "outside").exists()


def test_a_link_is_there_at_every_moment_while_it_is_switched(tmp_path: Path) -> None:
    link = tmp_path / "current"
    link.symlink_to("0")
    missing = threading.Event()
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            if not os.path.lexists(link):
                missing.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    for number in range(2000):
        replace_link(link, str(number))
    done.set()
    watcher.join()
    assert not missing.is_set()
    assert link.readlink() == Path("1999")


def test_switching_remembers_the_release_before_and_switching_again_does_not_forget_it(releases: Releases) -> None:
    for number, name in enumerate(("a", "b")):
        pretend(releases, name, number)
        releases.switch(name)
    releases.switch("b")
    assert (releases.linked(), releases.linked("previous")) == ("b", "a")


def test_the_newest_releases_are_kept_and_never_is_the_one_in_use_or_the_one_before_removed(releases: Releases) -> None:
    for number, name in enumerate("abcdef"):
        pretend(releases, name, number)
    releases.switch("b")
    releases.switch("a")
    assert releases.removable(3) == ["c"]
    assert releases.removable(1) == ["c", "d", "e"]
    releases.remove("c")
    assert not releases.path("c").exists()


def test_what_an_interrupted_installation_left_is_removed_unless_it_is_in_use(releases: Releases) -> None:
    pretend(releases, "a", 1)
    releases.switch("a")
    releases.path("half").mkdir()
    assert releases.removable(3) == ["half"]
    (releases.path("a") / ".complete").unlink()
    assert releases.removable(3) == ["half"]
