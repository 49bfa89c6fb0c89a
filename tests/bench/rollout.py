"""How long a first rollout, a second run and a verification take, on a lab of its own; medians of three.

`make bench-rollout` runs it. The images are built before the first measurement, so that it counts the hosts' own work.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path

from tests.bench.report import Figure, publish

ROOT = Path(__file__).resolve().parents[2]
RUNS = 3
# The most used public Redis role took 0.9 s per task on two hosts with nothing to change.
GOAL_PER_TASK = "<= 0.6"


def play(playbook: str, junit: Path | None = None) -> tuple[float, str]:
    """Run a playbook on the bench lab; its seconds and its output. A failed run ends the benchmark."""
    environment = os.environ | {"SESSION_OPS_LAB": "bench", "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    if junit:
        environment |= {"ANSIBLE_CALLBACKS_ENABLED": "ansible.builtin.junit", "JUNIT_OUTPUT_DIR": str(junit)}
    began = time.perf_counter()
    result = subprocess.run(
        ["ansible-playbook", f"playbooks/{playbook}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - began
    if result.returncode != 0:
        sys.exit(f"{playbook} failed:\n{result.stdout[-6000:]}{result.stderr[-2000:]}")
    return seconds, result.stdout


def seconds_per_role(junit: Path) -> dict[str, float]:
    """Seconds of the hosts' tasks by role, from the junit report of a run; `verify` is the host suite."""
    seconds: dict[str, float] = defaultdict(float)
    for report in junit.glob("*.xml"):
        for case in ET.parse(report).getroot().iter("testcase"):  # noqa: S314  (our own ansible wrote it)
            name = case.get("name", "")
            found = re.search(r"(?:^|: )(\w+) : ", name)
            role = "verify" if "The host suite passes" in name else found.group(1) if found else "playbook"
            seconds[role] += float(case.get("time", "0"))
    return seconds


def main() -> int:
    """Measure, print and judge."""
    measured: dict[str, list[float]] = defaultdict(list)
    shares: dict[str, list[float]] = defaultdict(list)
    subprocess.run([ROOT / "scripts" / "lab", "images"], check=True)
    try:
        for _ in range(RUNS):
            play("lab/destroy.yml")
            measured["create"].append(play("lab/create.yml")[0])
            measured["first"].append(play("rollout.yml")[0])
            with tempfile.TemporaryDirectory() as folder:
                seconds, output = play("rollout.yml", Path(folder))
                roles = seconds_per_role(Path(folder))
            if re.search(r"changed=[1-9]", output):
                sys.exit(f"the second run changed something:\n{output[-3000:]}")
            tasks = output.count("TASK [")
            measured["second"].append(seconds)
            measured["tasks"].append(tasks)
            # The host suite is one of the tasks and has its own figure; what is left is the roles' work.
            measured["per task"].append((seconds - roles["verify"]) / (tasks - 1))
            measured["verify"].append(play("verify.yml")[0])
            for role, spent in roles.items():
                shares[role].append(100 * spent / sum(roles.values()))
            print({name: round(values[-1], 2) for name, values in measured.items()}, file=sys.stderr, flush=True)
    finally:
        play("lab/destroy.yml")
    figures = [
        Figure(name="make the four hosts, images cached", unit="s", runs=measured["create"]),
        Figure(name="first rollout", unit="s", runs=measured["first"]),
        Figure(name="second run, verification included", unit="s", goal="<= 30", runs=measured["second"]),
        Figure(name="tasks of the second run", unit="tasks", runs=measured["tasks"]),
        Figure(
            name="second run without verification, per task", unit="s", goal=GOAL_PER_TASK, runs=measured["per task"]
        ),
        Figure(name="verification", unit="s", goal="<= 20", runs=measured["verify"]),
    ]
    figures += [
        Figure(name=f"share of {role}, second run", unit="%", runs=runs) for role, runs in sorted(shares.items())
    ]
    return publish("bench-rollout", figures)


if __name__ == "__main__":
    sys.exit(main())
