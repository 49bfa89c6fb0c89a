"""A service host: release, files, what the running service says of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.hosts.addresses import ask
from tests.hosts.expectations import Expectations
from tests.hosts.probes import Entry, differing, entries, unit_states

if TYPE_CHECKING:
    from testinfra.host import Host

testinfra_hosts = ["ansible://session_service?sudo=true"]


@pytest.fixture(scope="module")
def release(host: Host, expected: Expectations) -> str:
    """Where the link `current` leads, whole."""
    link = f"{expected['session_service_root']}/current"
    return str(host.check_output("readlink --canonicalize %s", link))


@pytest.fixture(scope="module")
def readiness(expected: Expectations) -> dict[str, Any]:
    """The service's own word, whatever its status."""
    answer = ask(expected, "/readyz")
    body: dict[str, Any] = answer.json()
    return body | {"status": answer.status_code}


@pytest.fixture(scope="module")
def generation(host: Host) -> dict[str, Any]:
    """The generation in force, as an operator on this host sees it."""
    shown: dict[str, Any] = json.loads(host.check_output("/usr/local/sbin/session-ops generation show --json"))
    return shown


def test_the_service_has_a_system_user_without_a_shell(host: Host, expected: Expectations) -> None:
    entry = host.run("getent passwd %s", expected["session_service_user"]).stdout.strip().split(":")
    assert len(entry) == 7, f"there is no user {expected['session_service_user']}"
    assert int(entry[2]) < 1000, "the service's user is a person's"
    assert entry[6] in {"/usr/sbin/nologin", "/bin/false"}, f"the service's user may log in with {entry[6]}"


def test_files_and_directories_have_their_owners_and_modes(host: Host, expected: Expectations, release: str) -> None:
    configuration, user = expected["session_service_configuration_directory"], expected["session_service_user"]
    credentials = f"{configuration}/credentials"
    wanted = {
        expected["session_service_root"]: Entry("directory", "0755", "root", "root"),
        release: Entry("directory", "0755", "root", "root"),
        f"{release}/bin/session-ops": Entry("regular file", "0755", "root", "root"),
        f"{configuration}/environment": Entry("regular file", "0640", "root", user),
        f"{configuration}/flag": Entry("regular file", "0644", "root", "root"),
        credentials: Entry("directory", "0700", "root", "root"),
        f"{credentials}/redis-password": Entry("regular file", "0600", "root", "root"),
        f"{credentials}/tokens": Entry("regular file", "0600", "root", "root"),
        "/usr/local/sbin/session-ops": Entry("regular file", "0755", "root", "root"),
    }
    if expected["session_service_legacy_database_url"]:
        wanted[f"{credentials}/legacy-database-url"] = Entry("regular file", "0600", "root", "root")
    wrong = differing(host, wanted)
    assert wrong == [], "; ".join(wrong)


def test_nothing_of_the_release_can_be_changed_by_the_service(host: Host, release: str) -> None:
    loose = host.check_output(r"find %s ! -type l \( ! -user root -o -perm /022 \) | head", release)
    assert loose == "", f"not root's own, or writable for others: {loose}"


def test_the_link_leads_to_a_complete_release(host: Host, expected: Expectations, release: str) -> None:
    root = expected["session_service_root"]
    assert release.startswith(f"{root}/releases/"), f"{root}/current leads to {release}"
    assert f"{release}/.complete" in entries(host, f"{release}/.complete"), f"{release} was never completed"


def test_the_release_is_the_one_that_was_built(expected: Expectations, release: str, readiness: dict[str, Any]) -> None:
    built = Path(str(expected["session_service_wheelhouse"])) / "release"
    name = release.rpartition("/")[2]
    if built.exists():
        assert name == built.read_text().strip(), "installed release against the one in the wheelhouse"
    assert readiness.get("release") == name, (
        "the release that runs against the one that is installed: restart the service"
    )


def test_no_more_releases_are_kept_than_the_inventory_says(host: Host, expected: Expectations) -> None:
    kept = host.check_output("ls %s", f"{expected['session_service_root']}/releases").split()
    assert len(kept) <= int(expected["session_service_releases_kept"]), f"releases on the host: {kept}"


def test_all_hosts_run_the_same_release(service_hosts: dict[str, Expectations], readiness: dict[str, Any]) -> None:
    releases = {name: ask(other, "/readyz").json().get("release") for name, other in service_hosts.items()}
    assert set(releases.values()) == {readiness.get("release")}, f"releases in the fleet: {releases}"


def test_the_flag_of_the_service_is_the_flag_on_disk(
    host: Host, expected: Expectations, readiness: dict[str, Any]
) -> None:
    text = host.check_output("cat %s", f"{expected['session_service_configuration_directory']}/flag")
    flag = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    on_disk = {
        "use_redis_sessions": flag.get("USE_REDIS_SESSIONS") == "true",
        "session_redis_percent": int(flag.get("SESSION_REDIS_PERCENT", "-1")),
    }
    assert readiness["flag"] == on_disk, "the service was not reloaded since the flag changed"


def test_the_service_runs_with_the_environment_on_disk(host: Host, expected: Expectations) -> None:
    process = unit_states(host, "session-service.service")["session-service.service"]["MainPID"]
    path = f"{expected['session_service_configuration_directory']}/environment"
    lines = host.check_output("grep '^[A-Z]' %s", path).splitlines()
    running = host.check_output("tr '\\000' '\\n' < %s", f"/proc/{process}/environ").splitlines()
    missing = [line.partition("=")[0] for line in lines if unquoted(line) not in running]
    assert missing == [], "settings that the running service does not have: restart it"


def test_the_settings_of_the_inventory_are_in_the_environment(host: Host, expected: Expectations) -> None:
    path = f"{expected['session_service_configuration_directory']}/environment"
    lines = [unquoted(line) for line in host.check_output("grep '^[A-Z]' %s", path).splitlines()]
    found = dict(line.split("=", 1) for line in lines)
    wanted = {
        "REDIS_HOST": expected["session_service_redis_host"],
        "REDIS_PORT": expected["session_service_redis_port"],
        "REDIS_USERNAME": expected["session_service_redis_user"],
        "SESSION_TTL": expected["session_service_ttl"],
        "SESSION_CLEANUP_INTERVAL": expected["session_service_cleanup_interval"],
        "SESSION_CLEANUP_BATCH_SIZE": expected["session_service_cleanup_batch_size"],
    }
    if expected["session_service_legacy_database_url"]:
        wanted |= {
            "LEGACY_TABLE": expected["session_service_legacy_table"],
            "LEGACY_COLUMNS": expected["session_service_legacy_columns"],
            "SESSION_LEASE": expected["session_service_lease"],
            "SESSION_FALLBACK_AFTER": expected["session_service_fallback_after"],
        }
    wanted |= expected["session_service_settings"]
    wrong = {name: found.get(name) for name, value in wanted.items() if found.get(name) != setting(value)}
    assert wrong == {}, f"the inventory wants { ({name: wanted[name] for name in wrong}) }"


def test_the_service_is_alive(expected: Expectations) -> None:
    answer = ask(expected, "/healthz")
    assert answer.status_code == 200, answer.text


def test_the_service_is_ready(readiness: dict[str, Any]) -> None:
    assert (readiness["status"], readiness["ready"]) == (200, True), f"not ready: {readiness['reasons']}"


def test_every_store_of_the_inventory_is_up(expected: Expectations, readiness: dict[str, Any]) -> None:
    wanted = {"redis": "up", "legacy": "up" if expected["session_service_legacy_database_url"] else "absent"}
    found = {name: store["state"] for name, store in readiness.get("stores", {}).items()}
    assert found == wanted, f"not ready because: {readiness['reasons']}"


def test_redis_alone_has_the_generation_of_the_environment(
    host: Host, expected: Expectations, generation: dict[str, Any]
) -> None:
    if expected["session_service_legacy_database_url"]:
        assert "prefix" in generation, "there is a legacy store, and the program does not know of it"
        return
    path = f"{expected['session_service_configuration_directory']}/environment"
    prefix = host.check_output("sed -n 's/^SESSION_GENERATION_PREFIX=//p' %s", path)
    found = {name: generation[name] for name in ("prefix", "mode", "redis", "library")}
    assert found == {"prefix": prefix, "mode": "final", "redis": "up", "library": True}, generation["reason"]


def test_beside_a_legacy_store_this_host_serves_the_generation_in_force(
    host: Host, expected: Expectations, generation: dict[str, Any], readiness: dict[str, Any]
) -> None:
    if not expected["session_service_legacy_database_url"]:
        assert "hosts" not in generation, "there is no legacy store, and the program knows of one"
        return
    assert generation["generation"] > 0, "no generation was opened: run `session-ops generation bump`"
    assert generation["closing"] is None, "a bump is under way: `session-ops generation show` says which"
    if readiness["flag"]["use_redis_sessions"]:
        assert generation["redis"] == "on", f"the flag is on and Redis is {generation['redis']}"
    name = host.check_output("hostname")
    # A process that has ended counts as live until its lease is over.
    running = host.check_output("ls /proc").split()
    mine = [one for one in generation["hosts"] if one["host"] == name and one["live"] and str(one["pid"]) in running]
    assert len(mine) == int(expected["session_service_workers"]), f"serving processes of {name}: {mine}"
    served = {(one["generation"], one["mode"], one["release"]) for one in mine}
    in_force = (generation["generation"], generation["mode"], readiness["release"])
    assert served == {in_force}, "generation, mode and release that this host serves, against those in force"
    assert [one["redis_bad_since"] for one in mine if generation["redis"] == "on"] == [None] * len(mine), (
        f"{name} has no good answer of Redis: {generation['redis_state']}"
    )


def test_the_service_gives_metrics(expected: Expectations) -> None:
    answer = ask(expected, "/metrics")
    assert answer.status_code == 200, answer.text
    assert "# TYPE session_" in answer.text, "no metric of the service's own"


def unquoted(line: str) -> str:
    """An environment file's line as systemd passes it on."""
    name, _, value = line.partition("=")
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    return f"{name}={value[1:-1] if quoted else value}"


def setting(value: object) -> str:
    """A variable's value as the environment file writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
