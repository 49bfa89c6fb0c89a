"""No secret leaves the places it belongs to, not even in the most talkative run that changes every one of them."""

from __future__ import annotations

import subprocess

import pytest

from tests.fleet import canary, lab
from tests.fleet.canary import ProcessWatch


@pytest.fixture(scope="module")
def canary_run() -> tuple[str, lab.Run, ProcessWatch]:
    """Plant a canary in every secret, and roll it out with -vvv --diff."""
    word = canary.plant()
    watch = ProcessWatch(word)
    watch.start()
    try:
        database = lab.play("lab/create.yml", "-vvv", "--diff")
        rollout = lab.play("rollout.yml", "-vvv", "--diff")
    finally:
        watch.end()
    assert database.status == 0, "the lab's database did not take its new password"
    return word, lab.Run(rollout.status, database.output + rollout.output), watch


def where(word: str, text: str) -> list[str]:
    """The lines with the word, without it: a failed test must not print a secret either."""
    return [line.replace(word, "CANARY")[:160] for line in text.splitlines() if word in line][:5]


def test_a_rollout_changes_every_secret(canary_run: tuple[str, lab.Run, ProcessWatch]) -> None:
    word, run, _ = canary_run
    assert run.status == 0, run.output.replace(word, "CANARY")[-4000:]


def test_the_output_carries_no_secret(canary_run: tuple[str, lab.Run, ProcessWatch]) -> None:
    word, run, _ = canary_run
    assert where(word, run.output) == [], "in the output of `ansible-playbook -vvv --diff`"


def test_no_process_shows_a_secret_to_others(canary_run: tuple[str, lab.Run, ProcessWatch]) -> None:
    _, _, watch = canary_run
    assert watch.samples > 20, "the watch did not look often enough to prove anything"
    assert watch.found == set()


@pytest.mark.parametrize("host", ["redis1", "app1", "app2", "db1"])
def test_the_journal_carries_no_secret(canary_run: tuple[str, lab.Run, ProcessWatch], host: str) -> None:
    word, _, _ = canary_run
    journal = lab.inside(host, "journalctl --no-pager --output=cat --boot")
    assert where(word, journal) == [], f"in the journal of {host}"


def test_the_watch_sees_a_word_on_a_command_line() -> None:
    watch = ProcessWatch("canary-of-the-watch")
    watch.start()
    process = subprocess.Popen(["sh", "-c", "read line # canary-of-the-watch"], stdin=subprocess.PIPE)
    try:
        while watch.samples < 3 and watch.is_alive():
            watch.join(canary.SAMPLE_SECONDS)
    finally:
        watch.end()
        process.communicate()
    assert len(watch.found) == 1
    assert "arguments of sh: " in watch.found.pop()
