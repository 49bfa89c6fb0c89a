"""The control tables: how far the fleet's migration is, which life of Redis is in force, and who serves.

They stand beside the sessions, so that one statement reads both: a statement of the protocol that joins the control row
sees the generation and the session at one instant. Every time in them is the database's own clock, integer ms.

session_control  the generation in force and everything a host needs to use it (protocol, section 2); one row
session_stage    how far the migration is, and the flag that the operator wants; one row
session_hosts    a row per serving process: what it has seen, and when it was last there
session_lock     which operator is at work; one row, and its token rises with every take
session_audit    what operators did: only appended to, each line carries the hash of the one before
session_audit_head  the number and the hash of the last line; one row, and whoever appends holds it
session_steps    a row per step of the migration that was begun: how far it came, who took it, and what it measured
session_runs     a row per run of the mover: what it was told, and what it has done
session_slices   a row per part of the table that a mover has in work: who, until when, and what it has claimed
session_run_samples  how a run fares: what each mover has done, measured and waited for, every few seconds
session_quarantine  rows that cannot move as they are, and why
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    false,
    text,
)

from session_ops.stores.legacy_schema import insert_into, lock_schema

if TYPE_CHECKING:
    from sqlalchemy import Connection

MODES: Final = ("mirror", "hold", "final")
"""Of the control row and of the generation key (protocol, section 9)."""

REDIS: Final = ("off", "on", "away")
"""Whether the operator wants Redis used, and whether the hosts have given it up for now (protocol, section 8)."""

STAGES: Final = ("prepared", "plan", "canary", "bulk", "soak", "final")
"""How far the migration is, in order; NULL in the stage row: not prepared."""

COUNTS: Final = ("scanned", "moved_in", "moved_back", "again", "expired", "quarantined")
"""What a mover counts: rows looked at, sessions moved in either direction, puts that Redis had already, rows that had
expired by Redis' clock, and rows that cannot move as they are."""

FIRST_HASH: Final = "0" * 64
"""The `previous_hash` of the first entry of the audit."""


class ControlSchema:
    """The control tables of a legacy store, in the namespace (schema) of its sessions table."""

    def __init__(self, namespace: str | None = None) -> None:
        """`namespace` as in front of the sessions table's name (`app` for `app.sessions`); None or "": the default."""
        self.metadata = MetaData(schema=namespace or None)
        self.control = Table(
            "session_control",
            self.metadata,
            *_only_row(),
            Column("generation", Integer, nullable=False, server_default=text("0")),
            Column("prefix", Text),
            Column("pin", Text),
            _one_of("mode", MODES, default="mirror"),
            Column("closing", Text),
            Column("closing_at", BigInteger),
            _one_of("redis", REDIS, default="off"),
            Column("addresses", Text, nullable=False, server_default=""),
            Column("identity", Text),
            Column("old_prefixes", Text, nullable=False, server_default="[]"),
            Column("bumped_at", Text, nullable=False, server_default="[]"),
        )
        self.stage = Table(
            "session_stage",
            self.metadata,
            *_only_row(),
            _one_of("stage", STAGES),
            _percent(),
            Column("use_redis", Boolean, nullable=False, server_default=false()),
            Column("canary_ids", Text, nullable=False, server_default="[]"),
            Column("run_id", Text),
            Column("changed_at", BigInteger),
            Column("changed_by", Text),
        )
        self.hosts = Table(
            "session_hosts",
            self.metadata,
            Column("host", String(256), primary_key=True),
            Column("pid", Integer, primary_key=True, autoincrement=False),
            Column("release", Text),
            Column("use_redis", Boolean, nullable=False, server_default=false()),
            _percent(),
            Column("started_at", BigInteger, nullable=False),
            Column("seen_at", BigInteger, nullable=False),
            Column("generation", Integer),
            Column("prefix", Text),
            Column("mode", Text),
            Column("closing", Text),
            Column("redis_good_at", BigInteger),
            Column("redis_good_since", BigInteger),
            Column("redis_bad_since", BigInteger),
            # The pin that the host goes by; releases side by side know the column by this name
            Column("detail", Text, key="pin"),
        )
        self.lock = Table(
            "session_lock",
            self.metadata,
            *_only_row(),
            Column("token", BigInteger, nullable=False, server_default=text("0")),
            Column("holder", Text),
            Column("purpose", Text),
            Column("until", BigInteger),
        )
        # Two that append at once would both carry the hash of the same line: unique, if the head's lock should fail.
        self.audit = Table(
            "session_audit",
            self.metadata,
            Column("seq", BigInteger, primary_key=True, autoincrement=False),
            Column("at", BigInteger, nullable=False),
            Column("who", Text, nullable=False),
            Column("what", Text, nullable=False),
            Column("detail", Text, nullable=False, server_default="{}"),
            Column("previous_hash", String(64), nullable=False, unique=True),
            Column("hash", String(64), nullable=False),
        )
        self.audit_head = Table(
            "session_audit_head",
            self.metadata,
            *_only_row(),
            Column("seq", BigInteger, nullable=False, server_default=text("0")),
            Column("hash", String(64), nullable=False, server_default=FIRST_HASH),
        )
        self.steps = Table(
            "session_steps",
            self.metadata,
            Column("number", Integer, primary_key=True, autoincrement=False),
            Column("step", Text, nullable=False),
            Column("state", Text, CheckConstraint("state IN ('begun', 'reached', 'stopped')"), nullable=False),
            Column("reason", Text),
            Column("began_at", BigInteger, nullable=False),
            Column("began_by", Text, nullable=False),
            Column("ended_at", BigInteger),
            Column("run_id", String(32)),
            Column("facts", Text, nullable=False, server_default="{}"),
        )
        self.runs = Table(
            "session_runs",
            self.metadata,
            Column("run_id", String(32), primary_key=True),
            Column("token", BigInteger, nullable=False),
            Column("state", Text, CheckConstraint("state IN ('running', 'stopped', 'done')"), nullable=False),
            Column("reason", Text),
            Column("target", Text, nullable=False),
            Column("started_at", BigInteger, nullable=False),
            Column("started_by", Text, nullable=False),
            Column("ended_at", BigInteger),
            Column("pass_number", Integer, nullable=False, server_default=text("1")),
            Column("next", Text, nullable=False, server_default=""),
            Column("pass_moved", BigInteger, nullable=False, server_default=text("0")),
            Column("slices", Integer, nullable=False, server_default=text("0")),
            Column("paused", Boolean, nullable=False, server_default=false()),
            Column("rate", Integer),
            Column("batch", Integer),
            *_counts(),
        )
        self.slices = Table(
            "session_slices",
            self.metadata,
            Column("run_id", String(32), primary_key=True),
            Column("number", Integer, primary_key=True, autoincrement=False),
            Column("token", BigInteger, nullable=False),
            Column("holder", Text, nullable=False),
            Column("until", BigInteger, nullable=False),
            Column("after", Text, nullable=False),
            Column("upto", Text, nullable=False),
            Column("claimed", Text, nullable=False, server_default="[]"),
            Column("reason", Text),
            *_counts(),
        )
        # What a mover did in the `span` ms before `at`; latencies in us, the worst that it has measured meanwhile.
        self.samples = Table(
            "session_run_samples",
            self.metadata,
            Column("run_id", String(32), primary_key=True),
            Column("mover", Text, primary_key=True),
            Column("at", BigInteger, primary_key=True, autoincrement=False),
            Column("span", BigInteger, nullable=False),
            Column("moved_in", BigInteger, nullable=False),
            Column("moved_back", BigInteger, nullable=False),
            Column("scanned", BigInteger, nullable=False),
            Column("redis_us", BigInteger),
            Column("legacy_us", BigInteger),
            Column("p99_us", BigInteger),
            Column("share", SmallInteger, nullable=False),
            Column("reason", Text),
        )
        self.quarantine = Table(
            "session_quarantine",
            self.metadata,
            Column("id", Text, primary_key=True),
            Column("reason", Text, nullable=False),
            Column("sha256", String(64), nullable=False),
            Column("size", BigInteger, nullable=False),
            Column("at", BigInteger, nullable=False),
            Column("run_id", String(32), nullable=False),
        )

    @property
    def single(self) -> tuple[Table, ...]:
        """The tables of exactly one row."""
        return self.control, self.stage, self.lock, self.audit_head

    def create(self, connection: Connection) -> None:
        """Make whatever of the tables and their single rows is missing. Repeatable, also on several hosts at once."""
        lock_schema(connection)
        self.metadata.create_all(connection)
        for table in self.single:
            connection.execute(insert_into(connection, table).values(id=1).on_conflict_do_nothing())


def audit_hash(previous_hash: str, *, seq: int, at: int, who: str, what: str, detail: str) -> str:
    """The hash of an audit entry, over everything in it and the hash of the entry before."""
    entry = msgspec.json.encode((previous_hash, seq, at, who, what, detail))
    return hashlib.sha256(entry).hexdigest()


def _only_row() -> tuple[Any, ...]:
    return (
        Column("id", SmallInteger, primary_key=True, autoincrement=False, server_default=text("1")),
        CheckConstraint("id = 1"),
    )


def _one_of(name: str, values: tuple[str, ...], default: str | None = None) -> Column[Any]:
    among = ", ".join(f"'{value}'" for value in values)
    check = CheckConstraint(f"{name} IN ({among})")
    return Column(name, Text, check, nullable=default is None, server_default=default)


def _counts() -> tuple[Any, ...]:
    return tuple(Column(name, BigInteger, nullable=False, server_default=text("0")) for name in COUNTS)


def _percent() -> Column[Any]:
    check = CheckConstraint("percent BETWEEN 0 AND 100")
    return Column("percent", SmallInteger, check, nullable=False, server_default=text("0"))
