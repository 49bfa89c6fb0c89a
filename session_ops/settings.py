"""The program's settings: one frozen object, made once at the edge from a mapping and passed down."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

from session_ops.errors import SettingsError
from session_ops.limits import is_prefix
from session_ops.settings_table import FOREIGN, FOREIGN_PREFIXES, SETTINGS, Setting
from session_ops.stores.legacy_columns import is_table, read_columns

if TYPE_CHECKING:
    from collections.abc import Mapping

BY_NAME: dict[str, Setting] = {row.name: row for row in SETTINGS}
FLAG_NAMES = ("USE_REDIS_SESSIONS", "SESSION_REDIS_PERCENT")
MASK = "********"
SECRET_FILE_LIMIT = 1_048_576

_INTEGER = re.compile(r"-?[0-9]{1,18}")
_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})

Value = str | int | float | bool


@dataclasses.dataclass(frozen=True)
class Flag:
    """What the flag says on this host: is Redis the home of sessions, and of which share of them."""

    use_redis_sessions: bool
    session_redis_percent: int


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything the program can be told; settings_table.py gives meaning and unit of each field.

    `sources` says for each name where its value came from: `default`, `environment` or `file PATH`.
    """

    redis_host: str
    redis_port: int
    redis_db: int
    redis_username: str
    redis_password: str = dataclasses.field(repr=False)
    redis_tls: bool
    redis_tls_ca_file: str
    redis_tls_cert_file: str
    redis_tls_key_file: str
    redis_data_dir: str
    redis_deadline: float
    redis_connect_timeout: float
    redis_queue_limit: int
    session_ttl: int
    session_max_lifetime: int
    session_cleanup_interval: int
    session_cleanup_batch_size: int
    session_data_limit: int
    session_partitions: int
    session_generation_prefix: str
    use_redis_sessions: bool
    session_redis_percent: int
    session_flag_file: str
    session_listen: str
    session_workers: int
    session_body_limit: int
    session_header_limit: int
    session_drain_timeout: float
    session_tokens: str = dataclasses.field(repr=False)
    session_agent_manager: str
    session_metrics_dir: str
    session_log_level: str
    session_lease: float
    session_fallback_after: float
    session_operator: str
    legacy_database_url: str = dataclasses.field(repr=False)
    legacy_table: str
    legacy_columns: str
    sources: Mapping[str, str]

    @property
    def flag(self) -> Flag:
        """The flag as it was when the settings were read."""
        return Flag(self.use_redis_sessions, self.session_redis_percent)

    @property
    def listen_address(self) -> tuple[str, int]:
        """Host and port of SESSION_LISTEN."""
        return split_address(self.session_listen)

    def replace(self, **changes: object) -> Settings:
        """A copy with some fields changed; for `serve --embedded` and for tests."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read, check and convert every setting.

    Raises `SettingsError` with one line that names the first setting that is wrong or unknown. Reads the files that
    NAME_FILE and SESSION_FLAG_FILE name, and nothing else.
    """
    _refuse_unknown(environment)
    texts: dict[str, str] = {}
    sources: dict[str, str] = {}
    for row in SETTINGS:
        texts[row.name], sources[row.name] = _raw(row, environment)
    if texts["SESSION_FLAG_FILE"]:
        for name, text in _flag_lines(texts["SESSION_FLAG_FILE"]).items():
            texts[name], sources[name] = text, f"file {texts['SESSION_FLAG_FILE']}"
    values = {row.field: _convert(row, texts[row.name]) for row in SETTINGS}
    settings = Settings(**values, sources=sources)  # type: ignore[arg-type]
    _check_together(settings)
    return settings


def read_flag(path: str, fallback: Flag) -> Flag:
    """Read the flag file again, as SIGHUP asks for; what it leaves out is taken from `fallback`.

    Raises `SettingsError` when the file cannot be read or a value is wrong; the flag in force then stays.
    """
    lines = _flag_lines(path)
    use, percent = FLAG_NAMES
    return Flag(
        bool(_convert(BY_NAME[use], lines[use])) if use in lines else fallback.use_redis_sessions,
        int(_convert(BY_NAME[percent], lines[percent])) if percent in lines else fallback.session_redis_percent,
    )


def split_address(text: str) -> tuple[str, int]:
    """Split HOST:PORT or [HOST]:PORT; raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(text)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(text)
    return host, int(port)


def shown(row: Setting, settings: Settings) -> Value:
    """The value as it may be displayed: a secret only says whether it is set."""
    value: Value = getattr(settings, row.field)
    if row.secret:
        return MASK if value else ""
    return value


def _refuse_unknown(environment: Mapping[str, str]) -> None:
    """Refuse a name that was meant for us and that nobody would read.

    SESSION_ and LEGACY_ are ours alone. REDIS_ is shared with other software (Kubernetes, Docker images), so there only
    names close to one of ours are refused.
    """
    known = set(BY_NAME) | {f"{row.name}_FILE" for row in SETTINGS if row.secret}
    for name in sorted(environment):
        if name in known or name in FOREIGN or name.startswith(FOREIGN_PREFIXES):
            continue
        ours = name.startswith(("SESSION_", "LEGACY_"))
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.6 if ours else 0.85)
        if ours or (near and name.startswith(("REDIS_", "USE_REDIS_"))):
            hint = f"; did you mean {near[0]}?" if near else "; `session-ops settings` lists the known ones"
            raise SettingsError(f"{name}: unknown setting{hint}")


def _raw(row: Setting, environment: Mapping[str, str]) -> tuple[str, str]:
    """The text of a setting and where it came from. An empty value is as good as none."""
    text = environment.get(row.name, "")
    path = environment.get(f"{row.name}_FILE", "") if row.secret else ""
    if text and path:
        raise SettingsError(f"{row.name}: given twice, by itself and by {row.name}_FILE; keep one")
    if path:
        try:
            with Path(path).open("rb") as stream:
                content = stream.read(SECRET_FILE_LIMIT + 1)
            if len(content) > SECRET_FILE_LIMIT:
                raise SettingsError(f"{row.name}_FILE: {path} is larger than {SECRET_FILE_LIMIT} bytes")
            return content.decode().strip(), f"file {path}"
        except OSError as error:
            raise SettingsError(f"{row.name}_FILE: cannot read {path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise SettingsError(f"{row.name}_FILE: {path} is not text") from error
    if text:
        return text, "environment"
    return row.default, "default"


def _flag_lines(path: str) -> dict[str, str]:
    """The flag file as NAME=VALUE lines, as systemd reads an EnvironmentFile; only the two flag names may be there."""
    try:
        content = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise SettingsError(f"SESSION_FLAG_FILE: cannot read {path}: {reason}") from error
    lines: dict[str, str] = {}
    for number, line in enumerate(content.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith(("#", ";")):
            continue
        name, equals, value = stripped.partition("=")
        name = name.strip()
        if not equals or name not in FLAG_NAMES:
            raise SettingsError(f"SESSION_FLAG_FILE: {path} line {number}: expected {' or '.join(FLAG_NAMES)}=VALUE")
        lines[name] = value.strip().strip("\"'")
    return lines


def _convert(row: Setting, text: str) -> Value:
    """The typed value of one setting; the message never repeats a secret."""
    try:
        value = _parse(row, text)
    except ValueError:
        got = "" if row.secret else f", not {text!r}"
        wanted = {"integer": "an integer", "number": "a number", "boolean": "true or false", "address": "HOST:PORT"}
        raise SettingsError(f"{row.name}: must be {wanted.get(row.kind, row.kind)}{got}") from None
    if isinstance(value, int | float) and not isinstance(value, bool):
        unit = f" {row.unit}" if row.unit else ""
        if row.minimum is not None and value < row.minimum:
            raise SettingsError(f"{row.name}: must be at least {row.minimum:g}{unit}, not {text}")
        if row.maximum is not None and value > row.maximum:
            raise SettingsError(f"{row.name}: must be at most {row.maximum:g}{unit}, not {text}")
    if row.choices and value not in row.choices:
        raise SettingsError(f"{row.name}: must be one of {', '.join(row.choices)}, not {text!r}")
    return value


def _parse(row: Setting, text: str) -> Value:
    if row.kind == "integer":
        if not _INTEGER.fullmatch(text):
            raise ValueError(text)
        return int(text)
    if row.kind == "number":
        number = float(text)
        if not math.isfinite(number):
            raise ValueError(text)
        return number
    if row.kind == "boolean":
        if text.lower() in _TRUE:
            return True
        if text.lower() in _FALSE:
            return False
        raise ValueError(text)
    if row.kind == "address":
        split_address(text)
    return text


def _check_together(settings: Settings) -> None:
    """What one setting demands of another."""
    if settings.session_partitions not in (1, 256):
        raise SettingsError(f"SESSION_PARTITIONS: must be 1 or 256, not {settings.session_partitions}")
    if settings.session_generation_prefix and not is_prefix(settings.session_generation_prefix):
        raise SettingsError("SESSION_GENERATION_PREFIX: 1 to 64 letters, digits, dashes and underscores")
    if 0 < settings.session_max_lifetime < settings.session_ttl:
        raise SettingsError("SESSION_MAX_LIFETIME: must be 0 or at least SESSION_TTL")
    if settings.redis_tls_cert_file and not settings.redis_tls_key_file:
        raise SettingsError("REDIS_TLS_KEY_FILE: missing beside REDIS_TLS_CERT_FILE")
    if not is_table(settings.legacy_table):
        raise SettingsError(f"LEGACY_TABLE: must be TABLE or SCHEMA.TABLE, not {settings.legacy_table!r}")
    try:
        read_columns(settings.legacy_columns)
    except ValueError as error:
        raise SettingsError(f"LEGACY_COLUMNS: {error}") from None
