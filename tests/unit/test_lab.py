"""The lab's state: drawn once, private, and never on a subnet that is taken."""

from __future__ import annotations

import importlib.util
import ipaddress
import json
import stat
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load(path: str) -> ModuleType:
    loader = SourceFileLoader(Path(path).stem, str(ROOT / path))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load("scripts/lab")
    monkeypatch.setattr(module, "STATE", tmp_path / "lab")
    return module


def test_a_lab_is_drawn_once(lab: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    lab.initialise("12")
    drawn = {path.name: path.read_bytes() for path in lab.STATE.iterdir()}
    lab.initialise("12")
    assert {path.name: path.read_bytes() for path in lab.STATE.iterdir()} == drawn
    assert capsys.readouterr().out.count("changed:") == 1


def test_secrets_are_for_the_owner_alone_and_the_hosts_get_only_the_tokens_hash(lab: ModuleType) -> None:
    lab.initialise("12")
    secrets = json.loads((lab.STATE / "secrets.yml").read_text())
    for name in ("secrets.yml", "token", "id_ed25519", "backup.key", "lab.json"):
        assert stat.S_IMODE((lab.STATE / name).stat().st_mode) == 0o600, name
    assert secrets["lab_token"] not in json.dumps(secrets["session_service_tokens"])
    assert len(set(map(str, secrets.values()))) == len(secrets)


def test_the_hosts_of_redis_take_the_debian_asked_for(lab: ModuleType) -> None:
    lab.initialise("13")
    assert {host["name"]: host["debian"] for host in lab.read()["hosts"]} == {
        "redis1": "13",
        "app1": "12",
        "app2": "13",
        "db1": "12",
    }


def test_a_taken_subnet_is_never_drawn(lab: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.initialise("12")
    created: list[str] = []

    def succeeds(*command: str) -> bool:
        if command[:3] == ("podman", "network", "create"):
            created.append(command[-2])
            return True
        return False

    draws = iter([3, 7, 3, 7, 5, 9])  # 10.67.7.0/24 twice, which is taken, then 10.69.9.0/24
    monkeypatch.setattr(lab, "succeeds", succeeds)
    monkeypatch.setattr(lab, "used_subnets", lambda: ["10.67.0.0/16"])
    monkeypatch.setattr(lab.secrets, "randbelow", lambda _: next(draws))
    state = lab.read()
    lab.make_network(state)
    assert created == ["10.69.9.0/24"]
    addresses = [ipaddress.ip_address(host["address"]) for host in lab.read()["hosts"]]
    assert len(set(addresses)) == len(addresses)


def test_a_changed_package_list_is_another_image(lab: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    before = lab.image_name("12")
    monkeypatch.setattr(lab, "PACKAGES", lab.PACKAGES + ",vim-tiny")
    assert lab.image_name("12") != before


def test_a_verb_without_a_lab_says_how_to_make_one(lab: ModuleType) -> None:
    with pytest.raises(lab.LabError, match="make lab"):
        lab.read()


class Podman:
    """Stands for podman with one host, which it fails to remove for a number of times."""

    def __init__(self, *, failures: int) -> None:
        self.hosts = ["host"]
        self._failures = failures

    def succeeds(self, *command: str) -> bool:
        if command[:2] != ("podman", "rm"):
            return False
        if self._failures > 0:
            self._failures -= 1
            return False
        self.hosts.clear()
        return True

    def output(self, *command: str) -> str:
        return " ".join(self.hosts) if command[:2] == ("podman", "ps") else ""


@pytest.mark.parametrize(("failures", "gone"), [(0, True), (2, True), (3, False)])
def test_a_host_that_podman_gives_up_at_first_is_removed_and_one_that_stays_is_an_error(
    lab: ModuleType, monkeypatch: pytest.MonkeyPatch, failures: int, gone: bool
) -> None:
    lab.initialise("12")
    podman = Podman(failures=failures)

    def run(*command: str) -> None:
        if not podman.succeeds(*command):
            raise lab.LabError("container state improper")

    for name, stand_in in (("succeeds", podman.succeeds), ("output", podman.output), ("run", run)):
        monkeypatch.setattr(lab, name, stand_in)
    if gone:
        lab.take_down()
    else:
        with pytest.raises(lab.LabError, match="improper"):
            lab.take_down()
    assert lab.STATE.exists() is not gone, "a lab's state goes with its last host, and not before"


def inventory(state: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    module = load("inventory/lab/hosts.py")
    monkeypatch.setattr(module, "STATE", state)
    found: dict[str, Any] = module.inventory()
    return found


def test_the_inventory_without_a_lab_has_groups_and_no_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = inventory(tmp_path, monkeypatch)
    assert [found[group]["hosts"] for group in ("redis", "session_service", "legacy")] == [[], [], []]


def test_the_inventory_gives_every_host_its_address(lab: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.initialise("12")
    state = lab.read()
    for place, host in enumerate(state["hosts"]):
        host["address"] = f"10.99.0.{place}"
    lab.write_private(lab.STATE / "lab.json", state)
    (lab.STATE / "known_hosts").write_text("")
    found = inventory(lab.STATE, monkeypatch)
    assert found["session_service"]["hosts"] == ["app1", "app2"]
    assert found["_meta"]["hostvars"]["app2"] == {"ansible_host": "10.99.0.2"}
