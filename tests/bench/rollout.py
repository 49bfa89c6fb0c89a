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
    """Seconds of the hosts' tasks by role, from the junit report of a run."""
    seconds: dict[str, float] = defaultdict(float)
    for report in junit.glob("*.xml"):
        for case in ET.parse(report).getroot().iter("testcase"):  # noqa: S314  (our own ansible wrote it)
            found = re.search(r"(?:^|: )(\w+) : ", case.get("name", ""))
            seconds[found.group(1) if found else "playbook"] += float(case.get("time", "0"))
    return seconds


def main() -> int:
    """Measure, print and judge."""
    first: list[float] = []
    create: list[float] = []
    second: list[float] = []
    verify: list[float] = []
    tasks: list[float] = []
    roles: dict[str, list[float]] = defaultdict(list)
    play("lab/create.yml")
    try:
        for _ in range(RUNS):
            play("lab/destroy.yml")
            create.append(play("lab/create.yml")[0])
            first.append(play("rollout.yml")[0])
            seconds, output = play("rollout.yml")
            changed = re.findall(r"changed=[1-9]\d*", output)
            if changed:
                sys.exit(f"the second run changed something:\n{output[-3000:]}")
            second.append(seconds)
            tasks.append(float(output.count("TASK [")))
            verify.append(play("verify.yml")[0])
            with tempfile.TemporaryDirectory() as junit:
                play("rollout.yml", Path(junit))
                shares = seconds_per_role(Path(junit))
            for role, spent in shares.items():
                roles[role].append(100 * spent / sum(shares.values()))
    finally:
        play("lab/destroy.yml")
    figures = [
        Figure(name="make the four hosts, images cached", unit="s", runs=create),
        Figure(name="first rollout", unit="s", runs=first),
        Figure(name="second run", unit="s", goal="<= 30", runs=second),
        Figure(name="tasks of the second run", unit="tasks", runs=tasks),
        Figure(
            name="second run per task",
            unit="s",
            goal=GOAL_PER_TASK,
            runs=[took / count for took, count in zip(second, tasks, strict=True)],
        ),
        Figure(name="verification", unit="s", goal="<= 20", runs=verify),
    ]
    figures += [
        Figure(name=f"share of {role}, second run", unit="%", runs=runs) for role, runs in sorted(roles.items())
    ]
    return publish("bench-rollout", figures)


if __name__ == "__main__":
    sys.exit(main())
