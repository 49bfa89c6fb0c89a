"""The service's unit: what of the host the service may write to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROLE = Path(__file__).resolve().parents[4] / "roles" / "session_service"


def writable(url: str) -> list[str]:
    """The paths that the unit opens where this is the legacy store."""
    variables = {
        **yaml.safe_load((ROLE / "defaults/main.yml").read_text()),
        **{
            name: trust_as_template(value) if isinstance(value, str) else value
            for name, value in yaml.safe_load((ROLE / "vars/main.yml").read_text()).items()
        },
        "session_service_legacy_database_url": url,
        "__session_service_credential_settings": {},
    }
    template = (ROLE / "templates/session-service.service.j2").read_text()
    unit = Templar(DataLoader(), variables=variables).template(trust_as_template(template))
    assert "ProtectSystem=strict" in unit
    return re.findall(r"^ReadWritePaths=(.*)$", unit, re.MULTILINE)


@pytest.mark.parametrize(
    ("url", "paths"),
    [
        ("", []),
        ("postgresql+psycopg://application:p@192.0.2.20/application", []),
        ("postgresql://application:sqlite:////x/y@192.0.2.20/application", []),
        ("sqlite:////var/lib/application/sessions.db", ["/var/lib/application"]),
        ("sqlite+aiosqlite:////var/lib/application/sessions.db?timeout=5", ["/var/lib/application"]),
    ],
)
def test_only_the_directory_of_a_sqlite_file_may_be_written_to(url: str, paths: list[str]) -> None:
    assert writable(url) == paths
