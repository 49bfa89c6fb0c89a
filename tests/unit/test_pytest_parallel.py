"""scripts/pytest-parallel: every test runs once; what fails beside others three times more, by itself; and any failure
there, or of a test that is about time, is the whole run's.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "pytest-parallel"
TESTS = """
import pytest
def noted(name, passes):
    with open({folder!r} + "/" + name, "a+") as file:
        file.write("x")
        file.seek(0)
        return passes[len(file.read()) - 1] == "1"
def test_beside(): assert noted("beside", {beside!r})
@pytest.mark.alone
def test_alone(): assert noted("alone", {alone!r})
"""


@pytest.mark.parametrize(
    ("beside", "alone", "chosen", "runs", "passes"),
    [
        ("1", "1", "test", {"beside": 1, "alone": 1}, True),
        ("00", "1", "test", {"beside": 2, "alone": 1}, False),
        ("0111", "1", "test", {"beside": 4, "alone": 1}, True),
        ("0110", "1", "test", {"beside": 4, "alone": 1}, False),
        ("1", "0", "test", {"beside": 1, "alone": 1}, False),
        ("1", "1", "test_alone", {"alone": 1}, True),
        ("1", "1", "test_beside", {"beside": 1}, True),
    ],
)
def test_what_is_chosen_runs_and_what_fails_beside_others_has_to_pass_three_times_by_itself(
    tmp_path: Path, beside: str, alone: str, chosen: str, runs: dict[str, int], *, passes: bool
) -> None:
    tests = tmp_path / "test_it.py"
    tests.write_text(TESTS.format(folder=str(tmp_path), beside=beside, alone=alone))
    command = [SCRIPT, tests, "-c", SCRIPT.parents[1] / "pyproject.toml", "-k", chosen]
    command += ["-p", "no:schemathesis", "-p", "no:hypothesispytest"]

    done = subprocess.run(command, env=os.environ | {"WORKERS": "1"}, capture_output=True, text=True, check=False)

    made = {path.name: len(path.read_text()) for path in tmp_path.iterdir() if path.name in {"beside", "alone"}}
    assert made == runs, done.stdout + done.stderr
    assert done.returncode == (0 if passes else 1), done.stdout + done.stderr
