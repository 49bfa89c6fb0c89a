"""Runs an Ansible module of the role in this process, with its arguments, and answers what it returned."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args

from tests.unit.roles.session_service.conftest import ROLE


def load(name: str, folder: str = "library") -> ModuleType:
    """Import a module or plugin of the role from its file."""
    spec = importlib.util.spec_from_file_location(f"role_{folder}_{name}", ROLE / folder / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_module(
    module: ModuleType, capsys: pytest.CaptureFixture[str], *, check: bool = False, **arguments: Any
) -> dict[str, Any]:
    """Run `main` and answer the JSON that it printed, as Ansible reads it."""
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in arguments.items()}
    basic._ANSIBLE_ARGS = None
    with patch_module_args(plain | {"_ansible_check_mode": check}), pytest.raises(SystemExit):
        module.main()
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result
