"""No secret of the inventory can be read on a host by anyone but its owner. The values never leave this process."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from testinfra.host import Host

    from tests.hosts.expectations import Expectations

testinfra_hosts = ["ansible://redis?sudo=true", "ansible://session_service?sudo=true", "ansible://legacy?sudo=true"]

# Where programs and people leave files that every user may read; the package manager's own trees are not among them.
PLACES = (
    "/etc /run /tmp /var/tmp /var/log /var/lib/redis /var/lib/valkey /opt/session-ops/releases/*/pyvenv.cfg /usr/local"
)
LARGEST_FILE = "256k"


def names_found(text: str, expected: Expectations) -> list[str]:
    """The variables whose values occur in `text`; never the values."""
    return sorted(name for name, value in expected.secrets().items() if value in text)


def test_the_inventory_has_secrets_to_look_for(expected: Expectations) -> None:
    if "legacy" not in expected["group_names"]:
        assert expected.secrets() != {}, "no secret is known to this suite: the tests below would prove nothing"


def test_no_command_line_carries_a_secret(host: Host, expected: Expectations) -> None:
    found = names_found(host.check_output("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\000' ' '"), expected)
    assert found == [], "in the command line of a process, which every user of the host can read"


def test_no_environment_but_that_of_root_carries_a_secret(host: Host, expected: Expectations) -> None:
    script = "find /proc/[0-9]* -maxdepth 1 -name environ ! -user root -exec cat {} + 2>/dev/null | tr '\\000' ' '"
    found = names_found(host.check_output(script), expected)
    assert found == [], "in the environment of a process, which everything of that user can read"


def test_no_unit_carries_a_secret(host: Host, expected: Expectations) -> None:
    found = names_found(
        host.check_output("systemctl show --property=Environment,ExecStart,ExecStartPre -- '*'"), expected
    )
    assert found == [], "in the properties of a unit, which systemd shows to every user of the host"


def test_no_file_that_others_can_read_carries_a_secret(host: Host, expected: Expectations) -> None:
    script = (
        f"find {PLACES} -xdev -type f -perm -o=r -size -{LARGEST_FILE} -exec cat {{}} + 2>/dev/null | base64 --wrap=0"
    )
    text = base64.b64decode(host.run(script).stdout).decode(errors="replace")
    found = names_found(text, expected)
    assert found == [], "in a file that every user of the host can read"


def test_the_journal_carries_no_secret(host: Host, expected: Expectations) -> None:
    # All of it and not just our units: Ansible logs how its modules are called.
    text = host.check_output("journalctl --quiet --no-pager --output=cat --boot --lines=20000")
    found = names_found(text, expected)
    assert found == [], "in the journal"
