"""Settings: read once, refused with one line that names what is wrong."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from session_ops.errors import SettingsError
from session_ops.settings import BY_NAME, MASK, Flag, Settings, read_flag, read_settings, shown, split_address
from session_ops.settings_table import SETTINGS
from session_ops.stores.legacy_columns import Columns, named_columns, read_columns

if TYPE_CHECKING:
    from pathlib import Path


def test_every_row_of_the_table_is_a_field_and_every_field_a_row() -> None:
    fields = [field.name for field in dataclasses.fields(Settings)]
    assert fields == [*(row.field for row in SETTINGS), "sources"]


def test_an_empty_environment_gives_the_defaults_of_the_contract() -> None:
    settings = read_settings({})
    assert settings.session_ttl == 86_400
    assert settings.session_cleanup_interval == 3_600
    assert settings.session_cleanup_batch_size == 100
    assert settings.flag == Flag(use_redis_sessions=True, session_redis_percent=100)
    assert set(settings.sources.values()) == {"default"}


def test_a_value_knows_that_it_came_from_the_environment() -> None:
    settings = read_settings({"SESSION_TTL": "60", "REDIS_HOST": "redis1"})
    assert (settings.session_ttl, settings.redis_host) == (60, "redis1")
    assert settings.sources["SESSION_TTL"] == "environment"
    assert settings.sources["REDIS_PORT"] == "default"


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"SESSION_TLT": "1"}, "SESSION_TLT: unknown setting; did you mean SESSION_TTL?"),
        ({"REDIS_HOTS": "x"}, "REDIS_HOTS: unknown setting; did you mean REDIS_HOST?"),
        ({"USE_REDIS_SESSION": "x"}, "USE_REDIS_SESSION: unknown setting; did you mean USE_REDIS_SESSIONS?"),
        ({"LEGACY_DB": "x"}, "LEGACY_DB: unknown setting"),
        ({"SESSION_TTL": "soon"}, "SESSION_TTL: must be an integer, not 'soon'"),
        ({"SESSION_TTL": "0"}, "SESSION_TTL: must be at least 1 s, not 0"),
        ({"SESSION_TTL": "1_000"}, "SESSION_TTL: must be an integer"),
        ({"REDIS_PORT": "65536"}, "REDIS_PORT: must be at most 65535, not 65536"),
        ({"REDIS_DEADLINE": "nan"}, "REDIS_DEADLINE: must be a number"),
        ({"REDIS_TLS": "maybe"}, "REDIS_TLS: must be true or false, not 'maybe'"),
        ({"SESSION_REDIS_PERCENT": "101"}, "SESSION_REDIS_PERCENT: must be at most 100 %, not 101"),
        ({"SESSION_LISTEN": "8080"}, "SESSION_LISTEN: must be HOST:PORT, not '8080'"),
        ({"SESSION_LOG_LEVEL": "loud"}, "SESSION_LOG_LEVEL: must be one of debug, info, warning, error, not 'loud'"),
        ({"SESSION_PARTITIONS": "16"}, "SESSION_PARTITIONS: must be 1 or 256, not 16"),
        ({"SESSION_MAX_LIFETIME": "60"}, "SESSION_MAX_LIFETIME: must be 0 or at least SESSION_TTL"),
        ({"SESSION_GENERATION_PREFIX": "1.a"}, "SESSION_GENERATION_PREFIX: "),
        ({"REDIS_TLS_CERT_FILE": "/c"}, "REDIS_TLS_KEY_FILE: missing beside REDIS_TLS_CERT_FILE"),
        ({"LEGACY_TABLE": "my sessions"}, "LEGACY_TABLE: must be TABLE or SCHEMA.TABLE, not 'my sessions'"),
        ({"LEGACY_TABLE": "a.b.c"}, "LEGACY_TABLE: must be TABLE or SCHEMA.TABLE, not 'a.b.c'"),
        ({"LEGACY_COLUMNS": "sid"}, "LEGACY_COLUMNS: expected PART=COLUMN, not 'sid'"),
        ({"LEGACY_COLUMNS": 'id="a b"'}, "LEGACY_COLUMNS: expected PART=COLUMN, not 'id=\"a b\"'"),
        ({"LEGACY_COLUMNS": "key=sid"}, "LEGACY_COLUMNS: key is no part of a session; those are id, "),
        ({"LEGACY_COLUMNS": "id=sid,id=key"}, "LEGACY_COLUMNS: id is named twice"),
        ({"LEGACY_COLUMNS": "agent_id=User_ID"}, "LEGACY_COLUMNS: user_id and agent_id are both called User_ID"),
        ({"REDIS_PASSWORD": "a", "REDIS_PASSWORD_FILE": "/b"}, "REDIS_PASSWORD: given twice"),
        ({"REDIS_PASSWORD_FILE": "/nowhere"}, "REDIS_PASSWORD_FILE: cannot read /nowhere: No such file"),
        ({"SESSION_FLAG_FILE": "/nowhere"}, "SESSION_FLAG_FILE: cannot read /nowhere: No such file"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(environment: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(environment)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_names_of_others_are_left_alone() -> None:
    read_settings({"SESSION_MANAGER": "local/x", "SESSION_OPS_LAB": "main", "REDIS_URL": "redis://x", "PATH": "/bin"})


def test_a_secret_is_read_from_a_file_and_never_shown(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("hunter2\n")
    settings = read_settings({"REDIS_PASSWORD_FILE": str(secret)})
    assert settings.redis_password == "hunter2"
    assert settings.sources["REDIS_PASSWORD"] == f"file {secret}"
    assert shown(BY_NAME["REDIS_PASSWORD"], settings) == MASK
    assert "hunter2" not in repr(settings)


def test_a_wrong_secret_is_not_repeated_in_the_message() -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings({"LEGACY_DATABASE_URL": "postgresql://u:hunter2@h/d", "LEGACY_DATABASE_URL_FILE": "/x"})
    assert "hunter2" not in str(caught.value)


def test_the_flag_file_wins_over_the_environment(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    flag.write_text('# seeded by the rollout\nUSE_REDIS_SESSIONS=false\nSESSION_REDIS_PERCENT="10"\n')
    settings = read_settings({"SESSION_FLAG_FILE": str(flag), "USE_REDIS_SESSIONS": "true"})
    assert settings.flag == Flag(use_redis_sessions=False, session_redis_percent=10)
    assert settings.sources["SESSION_REDIS_PERCENT"] == f"file {flag}"


def test_the_flag_is_read_again_and_what_it_leaves_out_stays(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    flag.write_text("SESSION_REDIS_PERCENT=50\n")
    fallback = Flag(use_redis_sessions=True, session_redis_percent=100)
    assert read_flag(str(flag), fallback) == Flag(use_redis_sessions=True, session_redis_percent=50)


@pytest.mark.parametrize("line", ["SESSION_TTL=5", "USE_REDIS_SESSIONS", "SESSION_REDIS_PERCENT=200"])
def test_a_wrong_flag_file_is_refused(tmp_path: Path, line: str) -> None:
    flag = tmp_path / "flag"
    flag.write_text(line + "\n")
    with pytest.raises(SettingsError):
        read_flag(str(flag), Flag(use_redis_sessions=True, session_redis_percent=100))


@pytest.mark.parametrize(
    ("text", "address"), [("127.0.0.1:80", ("127.0.0.1", 80)), ("[::1]:8080", ("::1", 8080)), ("h:0", ("h", 0))]
)
def test_an_address_is_host_and_port(text: str, address: tuple[str, int]) -> None:
    assert split_address(text) == address


@pytest.mark.parametrize("text", ["", ":80", "h:", "h:x", "h:65536", "::1:80", "h:٣"])
def test_anything_else_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        split_address(text)


def test_columns_are_called_as_the_application_calls_them() -> None:
    settings = read_settings({"LEGACY_TABLE": "web.visits", "LEGACY_COLUMNS": " id=sid, data=attributes,"})
    columns = read_columns(settings.legacy_columns)
    assert (settings.legacy_table, columns) == ("web.visits", Columns(id="sid", data="attributes"))
    assert named_columns(settings.legacy_columns) == {"id": "sid", "data": "attributes"}
