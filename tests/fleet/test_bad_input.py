"""Bad input and faults of a rollout: it stops, says which host, why and what to do, and touches nothing else."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import pytest

from tests.fleet import lab
from tests.fleet.faults import closed_ssh, missing_python, paused, port_taken, without_package_source

# Something to do for an interrupted run, that the next correct one has to take back.
CHANGE = ("-e", "session_service_ttl=90000")


@dataclass(frozen=True)
class Refusal:
    """A rollout that must be refused with every host left as it was: what is wrong, and what one message must say."""

    name: str
    says: tuple[str, ...]
    variables: str | None = None
    fault: Callable[[], AbstractContextManager[None]] = nullcontext


REFUSALS = [
    Refusal("an unknown variable", ("redis1", "redis_maxmemry", "did you mean redis_maxmemory"), "redis_maxmemry=1gb"),
    Refusal("a wrong type", ("app1", "session_service_port", "'many'", "Correct it"), "session_service_port=many"),
    Refusal("more memory than there is", ("redis1", "redis_maxmemory is 4000gb", "Lower it"), "redis_maxmemory=4000gb"),
    Refusal(
        "a port in use",
        ("app2", "port 9099", "is taken by", "spoilt.service", "choose another session_service_port"),
        "session_service_port=9099",
        lambda: port_taken("app2", 9099),
    ),
    Refusal(
        "no Python", ("app2", "there is no Python", "apt-get install python3"), None, lambda: missing_python("app2")
    ),
    Refusal("a closed SSH port", ("app2 cannot be reached", "Start the host"), None, lambda: closed_ssh("app2")),
    Refusal(
        "no package source",
        ("app2", "python3-venv is not installed", "Make the package source reachable"),
        None,
        lambda: without_package_source("app2"),
    ),
]
# Ansible gives a silent host up after its timeouts.
SLOW_REFUSALS = [
    Refusal("a host that is down", ("app2 cannot be reached", "Start the host"), None, lambda: paused("app2")),
]


def assert_refused(refusal: Refusal) -> None:
    arguments = ["-e", refusal.variables] if refusal.variables else []
    before = lab.fingerprint()
    with refusal.fault():
        run = lab.play("rollout.yml", *arguments)
    assert run.status != 0, f"the rollout was not refused:\n{run.output[-3000:]}"
    assert run.says(*refusal.says), f"no message says all of {refusal.says}:\n{run.output[-4000:]}"
    assert lab.fingerprint() == before, "a refused rollout changed what serves"


@pytest.mark.parametrize("refusal", REFUSALS, ids=[refusal.name for refusal in REFUSALS])
def test_a_rollout_is_refused_with(refusal: Refusal) -> None:
    assert_refused(refusal)


@pytest.mark.slow
@pytest.mark.parametrize("refusal", SLOW_REFUSALS, ids=[refusal.name for refusal in SLOW_REFUSALS])
def test_a_rollout_is_refused_after_a_while_with(refusal: Refusal) -> None:
    assert_refused(refusal)


def test_a_wrong_secret_stops_at_the_first_host_which_goes_on_as_before() -> None:
    before = lab.fingerprint()
    run = lab.play("rollout.yml", "-e", "session_service_redis_password=wrong-on-purpose")
    after = lab.fingerprint()
    assert run.status != 0, f"a wrong password was rolled out:\n{run.output[-3000:]}"
    assert run.says("app1", "wrong password", "its user session-service", "next step"), run.output[-4000:]
    assert "wrong-on-purpose" not in run.output, "the output carries a secret"
    assert after["app2"] == before["app2"], "the host after the first failure was touched"
    # app1 tried the password and went back: other processes, the same release and settings.
    assert after["app1"].splitlines()[:2] == before["app1"].splitlines()[:2], "the first host did not go back"
    assert lab.host_suite("test_service_host.py").status == 0, "a host is not ready after going back"


def assert_converges() -> None:
    run = lab.play("rollout.yml")
    assert run.status == 0, f"a correct run does not converge (it ends with the host suite):\n{run.output[-4000:]}"


def test_a_run_interrupted_in_the_middle_is_made_good_by_the_next() -> None:
    lab.interrupt_before("(5/", *CHANGE)
    assert_converges()


@pytest.mark.slow
@pytest.mark.parametrize("play", ["(1/", "(2/", "(3/", "VERIFY"])
def test_a_run_interrupted_between_plays_is_made_good_by_the_next(play: str) -> None:
    lab.interrupt_before(play, *CHANGE)
    assert_converges()


@pytest.mark.slow
def test_after_all_of_it_a_run_changes_nothing() -> None:
    run = lab.play("rollout.yml")
    assert run.status == 0, run.output[-3000:]
    assert lab.changes(run) == []
