"""Makes the role's modules importable, as Ansible does on the host."""

from __future__ import annotations

from pathlib import Path

import ansible.module_utils

ROLE = Path(__file__).resolve().parents[4] / "roles" / "session_service"
ansible.module_utils.__path__.append(str(ROLE / "module_utils"))
