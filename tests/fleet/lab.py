"""The lab as the tests drive it: playbooks, commands on a host, the host suite, and what a run must not touch."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
INVENTORY = "inventory/lab"
NAME = os.environ.get("SESSION_OPS_LAB", "main")
STATE = ROOT / ".lab" / NAME
ENVIRONMENT = os.environ | {
    "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
    "ANSIBLE_NOCOLOR": "1",
    # The host suite is started two dozen times: without compiled modules that is 4 s each, with them 1 s.
    "PYTHONDONTWRITEBYTECODE": "",
    "PYTHONPYCACHEPREFIX": str(ROOT / ".cache" / "python"),
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
}
SERVICE_HOSTS = ("app1", "app2")

# What must be the same after a refused rollout: the release, the settings, and the processes that serve.
FINGERPRINT = """
readlink /opt/session-ops/current
cat /etc/session-ops/environment /etc/session-ops/flag /etc/session-ops/credentials/* /etc/redis/* 2>/dev/null \\
  | sha256sum
systemctl show --property=MainPID,NRestarts redis-server.service session-service.service session-service.socket
"""


@dataclass(frozen=True)
class Run:
    """A command that has ended: its status, and all it printed with the terminal's line breaks undone."""

    status: int
    output: str

    def says(self, *words: str) -> bool:
        """Whether one paragraph of the output has all the words: a message is whole only in one place."""
        paragraphs = (" ".join(part.split()) for part in re.split(r"\n\s*\n", self.output))
        return any(all(word in paragraph for word in words) for paragraph in paragraphs)


def command(*arguments: str, timeout: float = 300, **environment: str) -> Run:
    """Run a command of the repository from its root."""
    result = subprocess.run(
        arguments,
        cwd=ROOT,
        env=ENVIRONMENT | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Run(result.returncode, result.stdout)


def play(playbook: str, *arguments: str, lab: str = NAME) -> Run:
    """Run a playbook on the lab, or on another lab of this checkout."""
    return command("ansible-playbook", "-i", INVENTORY, f"playbooks/{playbook}", *arguments, SESSION_OPS_LAB=lab)


def interrupt_before(play: str, *arguments: str, lab: str = NAME) -> None:
    """Start a rollout, and press Ctrl-C as the play whose title begins so begins."""
    process = subprocess.Popen(
        ["ansible-playbook", "-i", INVENTORY, "playbooks/rollout.yml", *arguments],
        cwd=ROOT,
        env=ENVIRONMENT | {"SESSION_OPS_LAB": lab},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    seen: list[str] = []
    for line in process.stdout:
        seen.append(line)
        if line.startswith(f"PLAY [{play}"):
            os.killpg(process.pid, signal.SIGINT)
            break
    rest = process.communicate(timeout=120)[0]
    assert seen[-1].startswith(f"PLAY [{play}"), f"play {play} never began:\n{''.join(seen)[-3000:]}"
    assert process.returncode != 0, f"the interrupted run claims success:\n{rest[-2000:]}"


def changes(run: Run) -> list[str]:
    """The lines of the recap that say that something changed."""
    recap = run.output.partition("PLAY RECAP")[2]
    assert "changed=" in recap, f"there is no recap:\n{run.output[-3000:]}"
    return [line for line in recap.splitlines() if re.search(r"changed=[1-9]", line)]


def host_suite(*files: str, host: str | None = None) -> Run:
    """Run the host suite, or some of its files, on all hosts or on one."""
    limit = [] if host is None else [f"--hosts-limit={host}"]
    paths = [f"tests/hosts/{name}" for name in files] or ["tests/hosts"]
    return command(
        *(sys.executable, "-m", "pytest", "-rf", f"--ansible-inventory={INVENTORY}"),
        # Plugins that the host suite has no use for, and that take longer to load than a file of it to run.
        *("-p", "no:cacheprovider", "-p", "no:schemathesis", "-p", "no:hypothesispytest"),
        *limit,
        *paths,
    )


def state(lab: str = NAME) -> dict[str, Any]:
    """What a lab remembers of itself: its id, its subnet and its hosts."""
    remembered: dict[str, Any] = json.loads((STATE.parent / lab / "lab.json").read_text())
    return remembered


def container(name: str, lab: str = NAME) -> str:
    """The podman container that is a host."""
    return f"lab-{state(lab)['id']}-{name}"


def podman(*arguments: str) -> str:
    """Ask podman, as root, to whom the lab's containers belong."""
    elevate = [] if os.geteuid() == 0 else ["sudo", "-n"]
    return subprocess.run([*elevate, "podman", *arguments], capture_output=True, text=True, check=True).stdout


def inside(name: str, script: str, lab: str = NAME) -> str:
    """Run a shell script on a host, past SSH and Python, which a test may have taken away."""
    return podman("exec", container(name, lab), "sh", "-c", script)


def fingerprint() -> dict[str, str]:
    """What serves on every host and with which settings; equal before and after where nothing was touched."""
    return {name: inside(name, FINGERPRINT) for name in ("redis1", *SERVICE_HOSTS)}


@contextmanager
def inventory_says(lab: str = NAME, **variables: object) -> Iterator[None]:
    """Give all hosts of a lab further variables, so that the host suite expects what a rollout brings."""
    path = STATE.parent / lab / "secrets.yml"
    before = path.read_text()
    path.write_text(json.dumps(json.loads(before) | variables, indent=2) + "\n")
    try:
        yield
    finally:
        if path.exists():
            path.write_text(before)


def secrets() -> dict[str, Any]:
    """The lab's secrets, by variable."""
    values: dict[str, Any] = json.loads((STATE / "secrets.yml").read_text())
    return values
