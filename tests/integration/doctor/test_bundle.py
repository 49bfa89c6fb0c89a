"""The support bundle has what helps and no secret, wherever one was planted."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec
import pytest

from session_ops.doctor.redaction import MASK, Redaction
from session_ops.settings import read_settings
from tests.integration.doctor.patient import Patient
from tests.servers import SERVICE_PASSWORD, RedisServer

if TYPE_CHECKING:
    from pathlib import Path

PASSWORD = "s3cr%t\"p@ss'wörd/\\#1"
"""With everything that an escape changes."""

DIGEST = "5e" * 32
BEARER = "bearer-token-of-a-caller-0001"
DATA = "planted-in-the-data-of-a-session"
LONG_ID = "a-session-id-that-a-caller-logs-in-with"
KEY = "-----BEGIN PRIVATE KEY-----\nMIIBplantedkey\n-----END PRIVATE KEY-----"

JOURNAL = f"""#!/bin/sh
cat <<'END'
2026-11-28T10:00:00 app1 session-ops[7]: {{"event":"odd","password":"{DATA}-1","url":"postgresql://u:{DATA}-2@db/x"}}
2026-11-28T10:00:01 app1 session-ops[7]: authorization: Bearer {BEARER}
2026-11-28T10:00:02 app1 session-ops[7]: said {PASSWORD} and {quote(PASSWORD, safe="")}
2026-11-28T10:00:03 app1 redis[8]: requirepass={DATA}-3 AUTH administrator {DATA}-4
2026-11-28T10:00:04 app1 session-ops[7]: tokens {DIGEST} {KEY}
2026-11-28T10:00:05 app1 session-ops[7]: {SERVICE_PASSWORD}
2026-11-28T10:00:06 app1 session-ops[7]: a line that helps
END
"""


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Patient:
    directory = tmp_path_factory.mktemp("bundle")
    server = RedisServer(directory / "redis").start()
    made = Patient(directory, server)
    server.stop()  # the bundle is asked for when something is wrong
    return made


def unpacked(path: Path) -> dict[str, str]:
    with tarfile.open(path) as archive:
        files = {}
        for member in archive.getmembers():
            assert member.isfile()
            assert member.mode == 0o600
            content = archive.extractfile(member)
            assert content is not None
            files[member.name.removeprefix("session-ops-bundle/")] = content.read().decode()
        return files


def test_no_secret_that_was_planted_anywhere_is_in_it(
    patient: Patient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "journalctl"
    program.parent.mkdir()
    program.write_text(JOURNAL)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    file = tmp_path / "tokens"
    file.write_text(f'[{{"caller": "a", "scopes": ["read"], "sha256": "{DIGEST}"}}]')
    quoted = PASSWORD.replace("'", "''")
    patient.sql(
        f"UPDATE session_hosts SET detail = '{quoted}', release = '{quoted}'",
        f"UPDATE session_runs SET reason = '{quoted}', state = 'stopped', started_by = 'ann:{quoted}'",
        f"UPDATE session_steps SET reason = 'postgresql://ann:{DATA}@db/x', state = 'stopped'",
        "INSERT INTO session_quarantine (id, reason, sha256, size, at, run_id)"
        f" VALUES ('{LONG_ID}', 'password={DATA}', '', 1, 1, '')",
        f'UPDATE session_audit SET detail = \'{{"id":"{LONG_ID}","api_key":"{DATA}"}}\' WHERE seq = 2',
        f'UPDATE visits SET attributes = \'{{"card":"{DATA}"}}\', version = version + 1',
    )
    path = tmp_path / "bundle.tar.gz"

    done = patient.doctor("--bundle", str(path), REDIS_PASSWORD=PASSWORD, SESSION_TOKENS_FILE=str(file))
    files = unpacked(path)
    everything = "\n".join((*files, *files.values()))

    assert done.exit_code == 7
    assert f"-- written: {path}" in done.stdout
    assert path.stat().st_mode & 0o777 == 0o600
    escaped = msgspec.json.encode(PASSWORD).decode().strip('"')
    for secret in (PASSWORD, escaped, quote(PASSWORD), quote(PASSWORD, safe=""), DIGEST, BEARER, DATA, LONG_ID,
                   "MIIBplantedkey"):  # fmt: skip
        assert secret not in everything, secret
    assert SERVICE_PASSWORD in everything, "it is not this host's password: only what looks like a secret is taken out"
    assert "a line that helps" in files["journal/session-service.txt"]
    assert MASK in files["journal/session-service.txt"]
    assert msgspec.json.decode(files["settings.json"])["REDIS_PASSWORD"] == {"value": MASK, "source": "environment"}
    assert "redis-unreachable" in files["doctor.json"]
    assert len(msgspec.json.decode(files["migration.json"])["runs"]) == 1
    assert "msgspec==" in files["packages.txt"]


def test_a_bundle_that_cannot_be_written_has_its_code_and_leaves_nothing(patient: Patient, tmp_path: Path) -> None:
    done = patient.doctor("--bundle", str(tmp_path / "no" / "bundle"))
    assert (done.exit_code, "--bundle: cannot write" in done.stderr) == (3, True)
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_without_a_legacy_store_says_so(patient: Patient, tmp_path: Path) -> None:
    path = tmp_path / "bundle.tar.gz"
    done = patient.doctor("--bundle", str(path), "--json", LEGACY_DATABASE_URL="", SESSION_GENERATION_PREFIX="1-x")
    files = unpacked(path)

    assert msgspec.json.decode(done.stdout)["bundle"]["files"] == sorted(files)
    assert "unreachable" in msgspec.json.decode(files["migration.json"])["none"]
    assert io.BytesIO(path.read_bytes()).read(2) == b"\x1f\x8b"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("postgresql://ann:hunter2@db/x?password=hunter3", f"postgresql://ann:{MASK}@db/x?password={MASK}"),
        ("Authorization: Bearer abcdefgh", f"Authorization: Bearer {MASK}"),
        ("used_memory=12 tokens=3 keys", "used_memory=12 tokens=******** keys"),
        ("nothing to hide: redis://10.0.0.5:6379", "nothing to hide: redis://10.0.0.5:6379"),
        ("step 10 reached, begun by ann@app1", "step 10 reached, begun by ann@app1"),
    ],
)
def test_what_looks_like_a_secret_is_taken_out_and_the_rest_stays(text: str, left: str) -> None:
    assert Redaction(read_settings({})).text(text) == left
