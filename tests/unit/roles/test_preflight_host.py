"""What preflight sees of a host is what is there."""

from __future__ import annotations

import os
import pathlib
import socket

import pytest

from .conftest import Runner, load

MODULE = "roles/preflight/library/preflight_host.py"
host = load(MODULE)


def test_a_listener_is_found_with_the_process_that_holds_it(
    run_module: Runner, listener: socket.socket, tmp_path: pathlib.Path
) -> None:
    address, port = listener.getsockname()
    result = run_module(MODULE, check=True, paths=[str(tmp_path / "not/yet")], addresses=["127.0.0.1", "192.0.2.1"])
    (found,) = [entry for entry in result["listeners"] if entry["port"] == port]
    assert found["address"] == address
    assert [owner["pid"] for owner in found["owners"]] == [str(os.getpid())]
    assert result["foreign_addresses"] == ["192.0.2.1"]
    assert result["free"][str(tmp_path / "not/yet")] > 0
    assert result["changed"] is False


@pytest.mark.parametrize(
    ("raw", "written"),
    [
        ("0100007F", "127.0.0.1"),
        ("00000000", "0.0.0.0"),
        ("00000000000000000000000001000000", "::1"),
        ("0000000000000000FFFF00000100007F", "::ffff:127.0.0.1"),
    ],
)
def test_addresses_of_proc_are_decoded(raw: str, written: str) -> None:
    assert host.decoded(raw) == written


def test_the_unit_of_a_process_is_read_from_its_control_group(tmp_path: pathlib.Path) -> None:
    (tmp_path / "comm").write_text("redis-server\n")
    (tmp_path / "cgroup").write_text("0::/system.slice/redis-server.service\n")
    assert host.process(tmp_path)["unit"] == "redis-server.service"


def test_a_control_groups_limit_below_the_machines_memory_counts(tmp_path: pathlib.Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal:        2048 kB\n")
    assert host.memory(tmp_path) == 2048 * 1024
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("1000000\n")
    assert host.memory(tmp_path) == 1000000
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("max\n")
    assert host.memory(tmp_path) == 2048 * 1024


class Commands:
    """Stands for AnsibleModule: answers commands from a table."""

    def __init__(self, **answers: tuple[int, str, str]) -> None:
        self._answers = answers

    def run_command(self, command: list[str]) -> tuple[int, str, str]:
        return self._answers[pathlib.Path(command[0]).name.replace("-", "_")]


URIS = "'http://a/debian/dists/x/InRelease' n 0 \n'http://a/debian/dists/y/InRelease' n 0 \n"


def test_a_package_source_that_does_not_answer_is_named_once() -> None:
    module = Commands(apt_get=(0, URIS, ""), apt_helper=(100, "", "E: no route\n"))
    assert host.silent_sources(module) == ["http://a/debian/dists/x/InRelease does not answer (no route)"]


def test_package_sources_that_answer_are_no_problem_and_none_at_all_is_one() -> None:
    assert host.silent_sources(Commands(apt_get=(0, URIS, ""), apt_helper=(0, "", ""))) == []
    assert host.silent_sources(Commands(apt_get=(0, "", ""))) == ["no package source is configured in /etc/apt"]


def test_the_clock_is_known_within_the_round_trip() -> None:
    probe = load("roles/preflight/action_plugins/preflight_host.py")
    assert probe.skew(100.0, 103.0, 101.0) == (2.0, 3.0)


def test_a_host_with_a_release_in_use_serves_already(run_module: Runner, tmp_path: pathlib.Path) -> None:
    link = tmp_path / "current"
    assert run_module(MODULE, release_link=str(link))["serves"] is False
    link.symlink_to(tmp_path / "gone")
    assert run_module(MODULE, release_link=str(link))["serves"] is True
