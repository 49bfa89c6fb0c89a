"""What the fleet tests stand on: a lab that is as the inventory says."""

from __future__ import annotations

import pytest

from tests.fleet import lab


@pytest.fixture(scope="session", autouse=True)
def rolled_out() -> None:
    """Refuse to spoil a lab that is spoilt already: nothing below would prove anything."""
    run = lab.host_suite()
    if run.status != 0:
        pytest.exit(f"the lab is not as the inventory says; `make rollout` first\n{run.output[-4000:]}", returncode=1)
