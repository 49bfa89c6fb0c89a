"""The wheelhouse: what each kind of host needs, checked against the lock on every run, always the same bytes."""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
DIGEST = "a" * 64


def load_script() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("wheelhouse", str(ROOT / "scripts" / "wheelhouse"))
    spec = importlib.util.spec_from_loader("wheelhouse", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["wheelhouse"] = module
    loader.exec_module(module)
    return module


wheelhouse = load_script()


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small checkout whose lock names one wheel, and a download that brings it instead of an index."""
    root = tmp_path / "checkout"
    (root / "requirements").mkdir(parents=True)
    package = root / "session_ops"
    package.mkdir()
    (package / "__init__.py").write_text("")
    shutil.copy(ROOT / "pyproject.toml", root)
    (root / "README.md").write_text("# readme\n")
    digest = hashlib.sha256(b"a wheel").hexdigest()
    (root / "requirements" / "runtime.txt").write_text(f"dep==1.0 \\\n    --hash=sha256:{digest}\n")
    monkeypatch.setattr(wheelhouse, "ROOT", root)
    monkeypatch.setattr(wheelhouse, "fetch", bring(b"a wheel"))
    return root


def bring(content: bytes) -> Callable[..., dict[str, list[Path]]]:
    def fetch(_lock: object, scratch: Path) -> dict[str, list[Path]]:
        scratch.joinpath("got").mkdir(exist_ok=True)
        wheel = scratch / "got" / "dep-1.0-py3-none-any.whl"
        wheel.write_bytes(content)
        return {"3.11-x86_64": [wheel]}

    return fetch


def never(*_: object) -> None:
    raise AssertionError("nothing changed, so nothing may be fetched or built")


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_the_lock_of_this_repository_has_only_exact_versions_with_hashes() -> None:
    lock = wheelhouse.read_lock((ROOT / "requirements" / "runtime.txt").read_text())
    assert {"redis", "hiredis", "msgspec", "uvicorn"} <= {requirement.name for requirement in lock}


@pytest.mark.parametrize("line", ["dep>=1.0 --hash=sha256:" + DIGEST, "dep==1.0", "dep==1.* --hash=sha256:" + DIGEST])
def test_a_lock_line_without_exact_version_or_hash_is_refused(line: str) -> None:
    with pytest.raises(wheelhouse.WheelhouseError, match="make lock"):
        wheelhouse.read_lock(line)


@pytest.mark.parametrize(
    ("marker", "python", "needed"),
    [
        ("python_full_version < '3.11.3'", "3.11", True),  # Debian 12 has 3.11.2, whatever the controller has
        ("python_full_version >= '3.11.3'", "3.11", True),
        ("python_full_version < '3.11.3'", "3.13", False),
        ("python_version < '3.13'", "3.13", False),
        ("sys_platform == 'win32'", "3.11", False),
        ("implementation_name != 'pypy'", "3.13", True),
        ("platform_machine == 'aarch64'", "3.13", False),
        ("", "3.13", True),
    ],
)
def test_a_marker_is_judged_for_the_hosts_and_not_for_the_controller(marker: str, python: str, needed: bool) -> None:
    requirement = wheelhouse.Requirement("dep", "dep==1.0", marker, frozenset({DIGEST}))
    assert wheelhouse.applies(requirement, python, "x86_64") is needed


def test_the_same_sources_give_the_same_bytes_and_a_second_run_builds_nothing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, built = wheelhouse.build(source, tmp_path / "one")
    assert built
    assert wheelhouse.build(source, tmp_path / "two") == (release, True)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    monkeypatch.setattr(wheelhouse, "fetch", never)
    monkeypatch.setattr(wheelhouse, "build_own_wheel", never)
    assert wheelhouse.build(source, tmp_path / "one") == (release, False)


def test_another_source_is_another_release_and_fetches_nothing_again(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, _ = wheelhouse.build(source, tmp_path / "house")
    (source / "session_ops" / "more.py").write_text("x = 1\n")
    monkeypatch.setattr(wheelhouse, "fetch", never)
    other, built = wheelhouse.build(source, tmp_path / "house")
    assert (built, other != release) == (True, True)
    manifest = json.loads((tmp_path / "house" / "manifest.json").read_text())
    assert manifest["release"] == other == (tmp_path / "house" / "release").read_text().strip()
    own = manifest["own_wheel"]
    assert f"--hash=sha256:{manifest['sha256'][own]}" in (tmp_path / "house" / "requirements.txt").read_text()
    assert sorted(manifest["hosts"]["3.11-x86_64"]) == ["wheels/dep-1.0-py3-none-any.whl", own]


@pytest.mark.parametrize("name", ["wheels/dep-1.0-py3-none-any.whl", "requirements.txt", "release"])
def test_a_changed_byte_is_found_also_when_nothing_else_changed_and_made_good(
    name: str, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    house = tmp_path / "house"
    wheelhouse.build(source, house)
    before = contents(house)
    (house / name).write_bytes(b"another")
    assert wheelhouse.build(source, house)[1]
    assert contents(house) == before
    assert f"{name} is missing or was changed" in capsys.readouterr().err


def test_a_wheel_that_is_not_what_the_lock_says_is_refused_and_no_manifest_vouches_for_it(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheelhouse, "fetch", bring(b"another wheel"))
    with pytest.raises(wheelhouse.WheelhouseError, match="not what"):
        wheelhouse.build(source, tmp_path / "house")
    assert not (tmp_path / "house" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("connection broken by 'NewConnectionError'\nNo matching distribution found for dep", "does not answer"),
        ("ERROR: No matching distribution found for dep==1.0", "dep==1.0 has no wheel for Python 3.13 on x86_64"),
        ("THESE PACKAGES DO NOT MATCH THE HASHES\n    dep==1.0 from https://x:\n", "dep==1.0 is not what"),
    ],
)
def test_what_pip_says_becomes_a_cause_and_a_next_step(output: str, said: str) -> None:
    assert said in wheelhouse.explain(output, "3.13", "x86_64")


def test_an_unreachable_index_ends_with_one_line_and_exit_code_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    for name, value in {
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_EXTRA_INDEX_URL": "",
        "PIP_FIND_LINKS": "",
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_RETRIES": "0",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(wheelhouse, "PYTHONS", ("3.13",))
    with pytest.raises(wheelhouse.WheelhouseError, match="the package index does not answer"):
        wheelhouse.fetch([wheelhouse.Requirement("dep", "dep==1.0", "", frozenset({DIGEST}))], tmp_path / "empty")
    assert capsys.readouterr().err == ""
