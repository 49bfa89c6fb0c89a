"""Everything that a doctor has to notice, each done to a fleet that is well otherwise, and taken back."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.servers import SERVICE_USER

FREE_PORT = "1"
"""Nothing listens there."""

_BEGUN = "INSERT INTO session_steps (number, step, state, reason, began_at, began_by) VALUES"
_RUN = (
    "INSERT INTO session_runs (run_id, token, state, reason, target, started_at, started_by) VALUES"
    " ('zz', 0, '{state}', '{reason}', '', 9000000000000, 'bob@app2:7')"
)
_NO_RUN = "DELETE FROM session_runs WHERE run_id = 'zz'"
_NO_STEP = "DELETE FROM session_steps WHERE number = 99"
_APP2 = (
    "INSERT INTO session_hosts (host, pid, release, use_redis, percent, started_at, seen_at, generation, mode)"
    f" SELECT 'app2', 8, '2', TRUE, 100, 1, {2**50}, generation, mode FROM session_control"
)
_QUARANTINED = (
    "INSERT INTO session_quarantine (id, reason, sha256, size, at, run_id) VALUES ('q', 'no user', '', 1, 1, '')"
)
_CHANGED = "UPDATE visits SET attributes ="
_TRIGGER = "CREATE TRIGGER _session_ops_spoilt BEFORE DELETE ON visits WHEN FALSE BEGIN SELECT 1; END"


@dataclass(frozen=True)
class Spoil:
    """`names` is what is found of it, `naming` what the finding says; `sql` and `redis` spoil, the other two heal."""

    name: str
    names: tuple[str, ...]
    code: int
    naming: str
    environment: dict[str, str] = field(default_factory=dict)
    sql: tuple[str, ...] = ()
    heal_sql: tuple[str, ...] = ()
    redis: tuple[tuple[str, ...], ...] = ()
    heal_redis: tuple[tuple[str, ...], ...] = ()


def control(values: str, heal: str) -> dict[str, tuple[str, ...]]:
    return {"sql": (f"UPDATE session_control SET {values}",), "heal_sql": (f"UPDATE session_control SET {heal}",)}


def host(values: str, heal: str) -> dict[str, tuple[str, ...]]:
    return {"sql": (f"UPDATE session_hosts SET {values}",), "heal_sql": (f"UPDATE session_hosts SET {heal}",)}


def configured(name: str, value: str, before: str) -> dict[str, tuple[tuple[str, ...], ...]]:
    return {"redis": (("CONFIG", "SET", name, value),), "heal_redis": (("CONFIG", "SET", name, before),)}


def rights(rule: str, before: str) -> dict[str, tuple[tuple[str, ...], ...]]:
    return {
        "redis": (("ACL", "SETUSER", SERVICE_USER, rule),),
        "heal_redis": (("ACL", "SETUSER", SERVICE_USER, before),),
    }


NOW = "(unixepoch() * 1000)"

SPOILS = (
    Spoil("Redis is elsewhere", ("redis-unreachable",), 7, "unreachable", {"REDIS_PORT": FREE_PORT}),
    Spoil("another password", ("redis-password",), 7, "wrong password", {"REDIS_PASSWORD": "hunter2-hunter2"}),
    Spoil("a right is missing", ("redis-rights-missing",), 3, "zscore", **rights("-zscore", "+zscore")),
    Spoil("the right to read is missing", ("redis-rights-missing",), 3, "hgetall", **rights("-hgetall", "+hgetall")),
    Spoil("a right too many", ("redis-rights-wide",), 0, "may: SCAN 0", **rights("+scan", "-scan")),
    Spoil("no functions", ("functions-missing",), 3, "function library is missing", redis=(("FUNCTION", "FLUSH"),),
          heal_redis=(("FUNCTION", "LOAD", "REPLACE", "{library}"),)),
    Spoil("it evicts", ("redis-evicts",), 3, "allkeys-lru",
          **configured("maxmemory-policy", "allkeys-lru", "noeviction")),
    Spoil("no append-only file", ("redis-not-saved",), 3, "append-only", **configured("appendonly", "no", "yes")),
    Spoil("no limit", ("redis-no-limit",), 0, "no maxmemory", **configured("maxmemory", "0", "{maxmemory}")),
    Spoil("full", ("redis-memory",), 3, "%", **configured("maxmemory", "{used}", "{maxmemory}")),
    Spoil("its data is lost", ("generation-lost",), 3, "has no generation", redis=(("DEL", "{generation}"),),
          heal_redis=(("SET", "{generation}", "mirror"),)),
    Spoil("another server", ("redis-not-pinned",), 3, "not the server of the control row",
          **control("pin = 'x' || pin", "pin = substr(pin, 2)")),
    Spoil("no database", ("legacy-unreachable",), 6, "unreachable",
          {"LEGACY_DATABASE_URL": "postgresql://ann:hunter2@127.0.0.1:1/x"}),
    Spoil("no such table", ("not-prepared",), 3, "schema missing", {"LEGACY_TABLE": "another"}),
    Spoil("the guard is changed", ("prepare-unfinished",), 3, "guard", sql=(_TRIGGER.replace("spoilt", "truncate"),),
          heal_sql=("DROP TRIGGER _session_ops_truncate",)),
    Spoil("hold", ("mode-hold",), 0, "hold", **control("mode = 'hold'", "mode = 'mirror'")),
    Spoil("a bump that never ended", ("bump-stuck",), 3, "closing for",
          **control(f"closing = 'x', closing_at = {NOW} - 60000", "closing = NULL, closing_at = NULL")),
    Spoil("Redis comes and goes", ("bumps-halted",), 3, "3 automatic bumps",
          **control(f"bumped_at = '[' || ({NOW} - 9000) || ',' || ({NOW} - 6000) || ',' || ({NOW} - 3000) || ']'",
                    "bumped_at = '[]'")),
    Spoil("Redis was given up", ("redis-away",), 3, "without Redis", **control("redis = 'away'", "redis = 'on'")),
    Spoil("Redis is off", ("redis-off",), 0, "Redis is off", **control("redis = 'off'", "redis = 'on'")),
    Spoil("no host", ("hosts-silent",), 3, "no host reports", **host("seen_at = 1", f"seen_at = {2**50}")),
    Spoil("a late host", ("host-late",), 3, "app1 does not know generation",
          **host("generation = generation - 1", "generation = generation + 1")),
    Spoil("a host without Redis", ("host-cut-off",), 3, "app1 does not reach Redis",
          **host("redis_bad_since = 1", "redis_bad_since = NULL")),
    Spoil("another flag", ("flags-differ",), 0, "the stage row wants 100 %; app1",
          **host("percent = 10", "percent = 100")),
    Spoil("two releases", ("releases-differ",), 0, ", 2",
          sql=(_APP2,), heal_sql=("DELETE FROM session_hosts WHERE host = 'app2'",)),
    Spoil("a step was stopped", ("step-stopped",), 0, "p99 doubled",
          sql=(f"{_BEGUN} (99, '100', 'stopped', 'p99 doubled', 1, 'bob@app2')",), heal_sql=(_NO_STEP,)),
    Spoil("a step was left", ("step-left",), 0, "begun by bob@app2",
          sql=(f"{_BEGUN} (99, '100', 'begun', NULL, 1, 'bob@app2')",), heal_sql=(_NO_STEP,)),
    Spoil("a mover has died", ("run-left",), 0, "bob@app2:7", sql=(_RUN.format(state="running", reason=""),),
          heal_sql=(_NO_RUN,)),
    Spoil("a run was stopped", ("run-stopped",), 0, "interrupted",
          sql=(_RUN.format(state="stopped", reason="interrupted"),), heal_sql=(_NO_RUN,)),
    Spoil("rows were put aside", ("rows-put-aside",), 0, "1 no user",
          sql=(_QUARANTINED,), heal_sql=("DELETE FROM session_quarantine",)),
    Spoil("the audit was changed", ("audit-broken",), 5, "line 2",
          sql=("UPDATE session_audit SET at = at + 1 WHERE seq = 2",),
          heal_sql=("UPDATE session_audit SET at = at - 1 WHERE seq = 2",)),
    Spoil("a session did not arrive", ("mirror-behind",), 5, "1 not arrived", redis=(("RENAME", "{session}", "aside"),),
          heal_redis=(("RENAME", "aside", "{session}"),)),
    Spoil("a row was changed by hand", ("stores-differ",), 5, "1 content",
          sql=("DROP TRIGGER _session_ops_update", f"{_CHANGED} '{{\"step\":2}}' WHERE sid = 's1'", "{update}"),
          heal_sql=("DROP TRIGGER _session_ops_update", f"{_CHANGED} '{{\"step\":1}}' WHERE sid = 's1'", "{update}")),
    Spoil("a setting is wrong", ("settings-wrong",), 2, "SESSION_AGENT_MANAGER", {"SESSION_AGENT_MANAGER": "mine"}),
    Spoil("two at once", ("legacy-unreachable", "redis-unreachable"), 6, "unreachable",
          {"REDIS_PORT": FREE_PORT, "LEGACY_DATABASE_URL": "postgresql://ann:hunter2@127.0.0.1:1/x"}),
)  # fmt: skip
