"""Faults of a host, as small pairs of inject and heal that a test puts around a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.fleet import lab

LISTENER = """
import os, signal, socket, sys
listener = socket.create_server(("0.0.0.0", int(sys.argv[1])))
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
signal.pause()
"""


@contextmanager
def port_taken(name: str, port: int) -> Iterator[None]:
    """Another program listens on the port; it tells systemd, so that it does when this returns."""
    lab.inside(name, f"systemd-run --quiet --unit=spoilt --service-type=notify python3 -c '{LISTENER}' {port}")
    try:
        yield
    finally:
        lab.inside(name, "systemctl stop spoilt.service")


@contextmanager
def missing_python(name: str) -> Iterator[None]:
    """The host has no Python; what runs already goes on."""
    lab.inside(name, "mv /usr/bin/python3 /usr/bin/python3.spoilt")
    try:
        yield
    finally:
        lab.inside(name, "mv /usr/bin/python3.spoilt /usr/bin/python3")


@contextmanager
def closed_ssh(name: str) -> Iterator[None]:
    """The host refuses SSH, those connections too that Ansible keeps open from before."""
    lab.inside(name, "systemctl stop ssh.service ssh.socket 2>/dev/null; pkill sshd; true")
    try:
        yield
    finally:
        lab.inside(name, "systemctl start ssh.service")


@contextmanager
def paused(name: str) -> Iterator[None]:
    """The host does not answer at all, as if its power or its network were gone."""
    lab.podman("--runtime", "runc", "pause", lab.container(name))
    try:
        yield
    finally:
        lab.podman("--runtime", "runc", "unpause", lab.container(name))


@contextmanager
def without_package_source(name: str) -> Iterator[None]:
    """A package that the service needs is missing, and the source of packages is out of reach."""
    lab.inside(name, "dpkg --remove python3-venv")
    lab.inside(name, 'echo "Acquire::http::Proxy \\"http://127.0.0.1:9\\";" > /etc/apt/apt.conf.d/99spoilt')
    try:
        yield
    finally:
        lab.inside(name, "rm /etc/apt/apt.conf.d/99spoilt; apt-get install --quiet --yes python3-venv")
