"""Action plugin: brings the wheels of a release to a host that does not have it yet, and installs them there."""

from __future__ import annotations

import json
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase


def read_wheelhouse(directory: Path) -> dict[str, Any]:
    """Return the wheelhouse's manifest. Fails where it was not built, with what to do."""
    try:
        manifest: dict[str, Any] = json.loads((directory / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AnsibleActionFail(
            f"{directory} is no finished wheelhouse: run scripts/wheelhouse on the controller"
        ) from error
    return manifest


def pack(directory: Path, manifest: dict[str, Any], kind: str, archive: Path) -> None:
    """Pack what one kind of host ("3.11-x86_64") needs: its wheels and the requirements, without compressing twice.

    The wheels go as they lie there, unchecked: the host's pip checks every one against the hashes.
    """
    names = manifest["hosts"].get(kind)
    if names is None:
        known = ", ".join(sorted(manifest["hosts"]))
        raise AnsibleActionFail(
            f"the wheelhouse has no wheels for Python and processor {kind} (it has {known}): "
            "use a supported Debian release, or add it to scripts/wheelhouse and build again"
        )
    with tarfile.open(archive, "w") as bundle:
        for name in ["requirements.txt", *names]:
            bundle.add(directory / name, arcname=Path(name).name)


class ActionModule(ActionBase):
    """Ask the host whether it has the release, unless it is known to; only if not, send the wheels and install."""

    TRANSFERS_FILES = True
    _requires_connection = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the task on one host."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        directory = Path(str(arguments.pop("wheelhouse", "")))
        manifest = read_wheelhouse(directory)
        arguments["release"] = manifest["release"]
        if manifest["release"] in arguments.pop("installed", []):
            return result | {"changed": False, "missing": False, "release": manifest["release"]}
        answer = self._execute_module("session_release", module_args=arguments, task_vars=task_vars)
        if answer.get("failed") or not answer["missing"] or self._task.check_mode:
            return result | answer

        kind = f"{answer['python']}-{answer['machine']}"
        with tempfile.TemporaryDirectory(prefix="session-release-") as scratch:
            archive = Path(scratch) / "wheels.tar"
            try:
                pack(directory, manifest, kind, archive)
            except OSError as error:
                raise AnsibleActionFail(f"{error}: run scripts/wheelhouse on the controller") from error
            remote = self._connection._shell.join_path(self._make_tmp_path(), "wheels.tar")
            try:
                self._transfer_file(str(archive), remote)
                self._fixup_perms2((self._connection._shell.tmpdir, remote))
                arguments["archive"] = remote
                answer = self._execute_module("session_release", module_args=arguments, task_vars=task_vars)
            finally:
                self._remove_tmp_path(self._connection._shell.tmpdir)
        return result | answer
