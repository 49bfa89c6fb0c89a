"""scripts/pytest-parallel: every test runs once, and any failure is the whole run's."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "pytest-parallel"
BESIDE = "def test_beside(): open({folder!r} + '/beside', 'x'); assert {beside}\n"
ALONE = "import pytest\n@pytest.mark.alone\ndef test_alone(): open({folder!r} + '/alone', 'x'); assert {alone}\n"


@pytest.mark.parametrize(
    ("beside", "alone", "chosen", "ran"),
    [
        (True, True, "test", {"beside", "alone"}),
        (False, True, "test", {"beside", "alone"}),
        (True, False, "test", {"beside", "alone"}),
        (True, True, "test_alone", {"alone"}),
        (True, True, "test_beside", {"beside"}),
    ],
)
def test_what_is_chosen_runs_once_and_a_failure_of_either_kind_is_told(
    tmp_path: Path, beside: bool, alone: bool, chosen: str, ran: set[str]
) -> None:
    tests = tmp_path / "test_it.py"
    tests.write_text((BESIDE + ALONE).format(folder=str(tmp_path), beside=beside, alone=alone))
    command = [SCRIPT, tests, "-c", SCRIPT.parents[1] / "pyproject.toml", "-k", chosen]
    command += ["-p", "no:schemathesis", "-p", "no:hypothesispytest", "-p", "no:cacheprovider"]

    done = subprocess.run(command, env=os.environ | {"WORKERS": "1"}, capture_output=True, text=True, check=False)

    assert {path.name for path in tmp_path.iterdir()} - {"test_it.py", "__pycache__"} == ran
    assert done.returncode == (0 if beside and alone else 1), done.stdout + done.stderr
