"""The files that a service host's configuration is made of, and the question whether a release accepts them."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.session_releases import CLEAN_ENVIRONMENT, ReleaseError
from ansible.module_utils.session_transaction import Wanted, read

if TYPE_CHECKING:
    from collections.abc import Mapping

# credentials/NAME reaches the program as the file that SETTING_FILE names.
CREDENTIALS = {
    "redis-password": "REDIS_PASSWORD",
    "legacy-database-url": "LEGACY_DATABASE_URL",
    "tokens": "SESSION_TOKENS",
}
# A generation that the service was ready with and that Redis does not have any more is lost data, not a new fleet.
SERVED = "generation"
# The prefix of the generation that alone keeps the sessions since the legacy store was retired. The inventory may go on
# naming that store.
FINAL = "final"
PLAIN = re.compile(r"[A-Za-z0-9@%_+:,./=-]*")
HEADER = "# Written by the role session_service: change the inventory, not this file.\n"
FLAG_HEADER = "# The flag of this host. `session-ops flag` and the migration change it; a rollout leaves it alone.\n"


def quoted(name: str, value: str) -> str:
    """Return NAME=VALUE so that systemd (EnvironmentFile) and a shell read the same value."""
    if re.search(r"[\x00-\x1f\x7f]", value):
        raise ReleaseError(f"{name}: a setting is one line of text without control characters")
    if PLAIN.fullmatch(value):
        return f"{name}={value}\n"
    return name + '="' + re.sub(r'(["\\$`])', r"\\\1", value) + '"\n'


def environment_text(values: Mapping[str, str]) -> str:
    """Return the environment file. Refuses a secret: this file is readable by the service's group."""
    for name in values:
        if not re.fullmatch(r"[A-Z][A-Z0-9_]*", name):
            raise ReleaseError(f"{name}: a setting's name is written in capitals, as in the environment")
        if name in CREDENTIALS.values() or name.removesuffix("_FILE") in CREDENTIALS.values():
            raise ReleaseError(
                f"{name}: a secret has a variable of its own (session_service_...), not session_service_settings"
            )
    return HEADER + "".join(quoted(name, value) for name, value in sorted(values.items()))


def strings(values: Mapping[str, Any]) -> dict[str, str]:
    """Return settings as the texts that stand in an environment file."""
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in values.items()}


def flag_text(values: Mapping[str, str]) -> str:
    """Return the flag file as it is seeded."""
    return FLAG_HEADER + "".join(quoted(name, value) for name, value in values.items())


def read_values(text: str) -> dict[str, str]:
    """Return the NAME=VALUE lines of an environment or flag file that holds plain values."""
    lines = (line.strip() for line in text.splitlines())
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith(("#", ";")))


def generation_prefix(configuration: Path) -> str:
    """Return the prefix that the environment file names, "" when it names none."""
    return read_values(read(configuration / "environment") or "").get("SESSION_GENERATION_PREFIX", "").strip("\"'")


def served_generation(configuration: Path) -> str:
    """Return the prefix of the generation that the service was last ready with, "" when it never was."""
    return (read(configuration / SERVED) or "").strip()


def final_generation(configuration: Path) -> str:
    """Return the prefix of the generation with which the legacy store was retired, "" where it was not."""
    return (read(configuration / FINAL) or "").strip()


def wanted_files(
    folder: Path, group: str, environment: Mapping[str, str], flag: Mapping[str, str], credentials: Mapping[str, str],
    *, final: str = "",
) -> list[Wanted]:  # fmt: skip
    """Every file below the configuration's folder, as it should be; an empty credential should not be there."""
    flag_file = folder / "flag"
    return [
        Wanted(folder / "environment", environment_text(environment), 0o640, group),
        Wanted(flag_file, read(flag_file) or flag_text(flag), 0o644),
        Wanted(folder / FINAL, f"{final}\n" if final else None, 0o644),
        *(
            Wanted(folder / "credentials" / name, credentials.get(name) or None, 0o600, secret=True)
            for name in CREDENTIALS
        ),
    ]


def run_release(
    program: Path, arguments: list[str], environment: Mapping[str, str], files: list[Wanted]
) -> subprocess.CompletedProcess[str]:
    """Run a release's program with a configuration that is not in place. Raises `ReleaseError` if it does not run."""
    # /run is in memory, so that no secret reaches a disk by this.
    staging = Path(tempfile.mkdtemp(prefix="session-ops-", dir="/run" if Path("/run").is_dir() else None))
    try:
        variables = {**CLEAN_ENVIRONMENT, **environment}
        for file in files:
            if file.content is None:
                continue
            staged = staging / file.path.name
            staged.touch(mode=0o600)
            staged.write_text(file.content, encoding="utf-8")
            if file.path.name in CREDENTIALS:
                variables[f"{CREDENTIALS[file.path.name]}_FILE"] = str(staged)
            elif file.path.name == "flag":
                variables["SESSION_FLAG_FILE"] = str(staged)
        return subprocess.run([str(program), *arguments], capture_output=True, text=True, env=variables, check=False)
    except OSError as error:
        raise ReleaseError(f"{program} does not run: {error}") from error
    finally:
        shutil.rmtree(staging)


def check_settings(program: Path, environment: Mapping[str, str], files: list[Wanted]) -> None:
    """Let a release judge the new configuration before any of it is in place.

    Raises `ReleaseError` with the line in which the release names the wrong setting.
    """
    result = run_release(program, ["settings", "--check"], environment, files)
    if result.returncode != 0:
        said = (result.stderr.strip() or result.stdout.strip() or f"exit code {result.returncode}")[-1500:]
        raise ReleaseError(f"the settings were refused: {said}")
