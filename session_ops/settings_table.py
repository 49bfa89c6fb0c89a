"""Every setting of the program, as data: name, type, default, unit and meaning. The documentation is made from it.

`Settings` (settings.py) has one typed field per row; a test keeps the two in step.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

Kind = Literal["text", "integer", "number", "boolean", "path", "address"]


@dataclasses.dataclass(frozen=True)
class Setting:
    """One row. `default` is written as it would stand in an environment file; "" means: not set.

    A `secret` is also read from the file that NAME_FILE names, and is never shown.
    """

    name: str
    kind: Kind
    default: str
    meaning: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    secret: bool = False

    @property
    def field(self) -> str:
        """The attribute of `Settings` that holds the value."""
        return self.name.lower()


SETTINGS: tuple[Setting, ...] = (
    Setting("REDIS_HOST", "text", "127.0.0.1", "address of Redis"),
    Setting("REDIS_PORT", "integer", "6379", "port of Redis", minimum=1, maximum=65535),
    Setting("REDIS_DB", "integer", "0", "database number in Redis", minimum=0, maximum=1023),
    Setting("REDIS_USERNAME", "text", "", "ACL user; empty is Redis' own `default`"),
    Setting("REDIS_PASSWORD", "text", "", "password of the ACL user", secret=True),
    Setting("REDIS_TLS", "boolean", "false", "speak TLS to Redis"),
    Setting("REDIS_TLS_CA_FILE", "path", "", "certificates that Redis' own is checked against; empty: the system's"),
    Setting("REDIS_TLS_CERT_FILE", "path", "", "client certificate, where Redis asks for one"),
    Setting("REDIS_TLS_KEY_FILE", "path", "", "key of the client certificate"),
    Setting("REDIS_DATA_DIR", "path", "", "where `serve --embedded` keeps its stores; empty: .session-ops here"),
    Setting("REDIS_DEADLINE", "number", "1.0", "longest time one call to Redis may take", "s", 0.01, 60),
    Setting("REDIS_CONNECT_TIMEOUT", "number", "0.3", "longest time a connection attempt may take", "s", 0.01, 60),
    Setting(
        "REDIS_QUEUE_LIMIT", "integer", "10000", "calls in flight to Redis before callers get 503", "", 1, 1_000_000
    ),
    Setting("SESSION_TTL", "integer", "86400", "life of a session after its last use", "s", 1, 315_360_000),
    Setting(
        "SESSION_MAX_LIFETIME",
        "integer",
        "0",
        "life of a session however much it is used; 0: no end",
        "s",
        0,
        3_153_600_000,
    ),
    Setting("SESSION_CLEANUP_INTERVAL", "integer", "3600", "time between two cleanup runs", "s", 1, 604_800),
    Setting(
        "SESSION_CLEANUP_BATCH_SIZE", "integer", "100", "ended sessions taken per step of a cleanup run", "", 1, 100
    ),
    Setting("SESSION_DATA_LIMIT", "integer", "65536", "largest data of one session", "bytes", 256, 4_194_304),
    Setting(
        "SESSION_PARTITIONS",
        "integer",
        "1",
        "parts the keys are spread over: 256 in a Redis Cluster, else 1",
        "",
        1,
        256,
    ),
    Setting(
        "SESSION_GENERATION_PREFIX",
        "text",
        "",
        "key prefix of the generation in force, as `generation open` was given it",
    ),
    Setting("USE_REDIS_SESSIONS", "boolean", "true", "the flag: sessions have their home in Redis"),
    Setting("SESSION_REDIS_PERCENT", "integer", "100", "share of the sessions that the flag is for", "%", 0, 100),
    Setting(
        "SESSION_FLAG_FILE",
        "path",
        "",
        "file with the two flag settings; read again on SIGHUP, wins over the environment",
    ),
    Setting("SESSION_LISTEN", "address", "127.0.0.1:8080", "HOST:PORT to listen on where no socket is inherited"),
    Setting("SESSION_WORKERS", "integer", "1", "serving processes behind the one socket", "", 1, 64),
    Setting("SESSION_BODY_LIMIT", "integer", "131072", "largest body of a request", "bytes", 1024, 16_777_216),
    Setting(
        "SESSION_HEADER_LIMIT",
        "integer",
        "16384",
        "largest head (request line and headers) of a request",
        "bytes",
        1024,
        1_048_576,
    ),
    Setting(
        "SESSION_DRAIN_TIMEOUT",
        "number",
        "10",
        "time that running requests get to finish when the service stops",
        "s",
        0,
        600,
    ),
    Setting("SESSION_TOKENS", "text", "", "callers of the API: JSON list of {caller, scopes, sha256}", secret=True),
    Setting(
        "SESSION_AGENT_MANAGER",
        "text",
        "logging",
        "agent manager: name of an entry point in `session_ops.agent_manager`",
    ),
    Setting(
        "SESSION_METRICS_DIR", "path", "", "where workers share their counters; empty: a private temporary directory"
    ),
    Setting(
        "SESSION_LOG_LEVEL",
        "text",
        "info",
        "least severe event that is logged",
        choices=("debug", "info", "warning", "error"),
    ),
    Setting(
        "SESSION_LEASE",
        "number",
        "3",
        "how long an answer of the control row is good for, while a legacy store is mirrored",
        "s",
        1,
        60,
    ),
    Setting(
        "SESSION_FALLBACK_AFTER",
        "number",
        "15",
        "silence of Redis before sessions go back to the legacy store",
        "s",
        1,
        3600,
    ),
    Setting("SESSION_OPERATOR", "text", "", "who is named in the audit; empty: the login, through sudo too"),
    Setting("LEGACY_DATABASE_URL", "text", "", "SQLAlchemy URL of the legacy store; empty: there is none", secret=True),
    Setting(
        "LEGACY_TABLE", "text", "sessions", "the application's table of sessions, with its schema in front if need be"
    ),
    Setting(
        "LEGACY_COLUMNS",
        "text",
        "",
        "what that table calls the parts of a session, as in `id=sid,data=attributes`; others go by their own names",
    ),
)

FOREIGN = ("SESSION_MANAGER",)
"""Names with our prefix that belong to others: SESSION_MANAGER is set by every X11 desktop."""

FOREIGN_PREFIXES = ("SESSION_OPS_",)
"""Names that our own make targets and tests use; the program does not read them."""
