"""What the doctor can find: each kind with its name, what it means and the command that mends it.

docs/troubleshooting.md has a section for every name, made from this table.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

Severity = Literal["error", "warning"]

USAGE, PRECONDITION, MISMATCH, LEGACY, REDIS = 2, 3, 5, 6, 7
_WORST_FIRST: Final = (USAGE, LEGACY, REDIS, MISMATCH, PRECONDITION)


class Kind(msgspec.Struct, frozen=True):
    """A kind of finding. `area` is the section of the guide; `code` the exit code where it is an error."""

    area: str
    means: str
    mend: str
    code: int = PRECONDITION
    severity: Severity = "error"


CONNECTION, DATA, SLOW, MIGRATION, HOST = (
    "Connection problems", "Inconsistent data", "Slowness and room", "Failed migrations", "The host itself",
)  # fmt: skip
AREAS: Final = (CONNECTION, DATA, SLOW, MIGRATION, HOST)

_ROLLOUT: Final = "ansible-playbook playbooks/rollout.yml"
_BUMP: Final = "session-ops generation bump --execute"
_AGAIN: Final = "ansible-playbook playbooks/migrate.yml"

KINDS: Final[dict[str, Kind]] = {
    "redis-unreachable": Kind(
        CONNECTION, "nothing answers at REDIS_HOST:REDIS_PORT, as seen from this host; sessions that Redis owns answer"
        " 503 until the hosts fall back (SESSION_FALLBACK_AFTER)",
        "systemctl status redis-server  # on the Redis host; then the network between the hosts", REDIS,
    ),
    "redis-password": Kind(
        CONNECTION, "Redis is there and refuses REDIS_USERNAME or its password: one of both was changed without the"
        " other", _ROLLOUT, REDIS,
    ),
    "redis-refuses": Kind(
        CONNECTION, "Redis is there and does not take commands just now; the reason is Redis' own",
        "journalctl --unit=redis-server --lines=50  # on the Redis host", REDIS,
    ),
    "redis-rights-missing": Kind(
        CONNECTION, "the service's user may not run a command that the service needs: its ACL was changed by hand, or"
        " is an older release's", _ROLLOUT,
    ),
    "redis-rights-wide": Kind(
        CONNECTION, "the service's user may do more than it needs: whoever has its password may read or list what is"
        " not the service's", _ROLLOUT, severity="warning",
    ),
    "functions-missing": Kind(
        CONNECTION, "Redis has not loaded the function library: it started empty, or the unit that loads it has failed",
        "systemctl restart session-functions  # on the Redis host",
    ),
    "legacy-unreachable": Kind(
        CONNECTION, "nothing answers at LEGACY_DATABASE_URL, as seen from this host; while the mirror is on nothing can"
        " be written", "systemctl status postgresql  # on the database's host; then the network between the hosts",
        LEGACY,
    ),
    "legacy-password": Kind(
        CONNECTION, "the database is there and refuses the user or the password of LEGACY_DATABASE_URL", _ROLLOUT,
        LEGACY,
    ),
    "legacy-refuses": Kind(
        CONNECTION, "the database is there and does not serve; the reason is its own",
        "journalctl --unit=postgresql --lines=50  # on the database's host", LEGACY,
    ),
    "service-down": Kind(
        CONNECTION, "nothing answers at SESSION_LISTEN of this host", "systemctl status session-service.socket"
        " session-service.service",
    ),
    "service-not-ready": Kind(
        CONNECTION, "the service of this host says that it is not ready, and why; its load balancer leaves it out",
        "session-ops doctor  # the other findings name the cause",
    ),
    "host-cut-off": Kind(
        CONNECTION, "a serving process has had no good answer of Redis while the control row says that it is on",
        "session-ops doctor  # on that host",
    ),
    "hosts-silent": Kind(
        CONNECTION, "no process of the service reports to the legacy store", _ROLLOUT,
    ),
    "stores-differ": Kind(
        DATA, "of some sessions the stores say different things, and no step of the protocol puts it right: somebody"
        " has written past it, or a store has lost what it had acknowledged",
        "session-ops migrate validate --full --repair", MISMATCH,
    ),
    "mirror-behind": Kind(
        DATA, "of some sessions one store lacks the last step: a host or a mover has died in the middle; the next"
        " request for such a session puts it right as well",
        "session-ops migrate validate --full --repair --execute", MISMATCH,
    ),
    "generation-lost": Kind(
        DATA, "Redis does not have the generation in force: it started empty, was flushed or was restored; the hosts"
        " bump by themselves within seconds", _BUMP,
    ),
    "redis-not-pinned": Kind(
        DATA, "the server that answers is not the one that the control row names: it was restarted or replaced, or"
        " is a replica; the hosts bump by themselves within seconds", _BUMP,
    ),
    "bump-stuck": Kind(
        DATA, "a bump was begun and never ended", "session-ops generation cancel --execute",
    ),
    "bumps-halted": Kind(
        DATA, "the hosts have bumped three times within ten minutes and stop: Redis comes and goes", _BUMP,
    ),
    "redis-away": Kind(
        DATA, "the hosts have given Redis up; the legacy store serves every session, and the hosts come back to Redis"
        " by themselves once it has answered for a minute",
        "systemctl status redis-server  # on the Redis host",
    ),
    "redis-off": Kind(
        DATA, "the stage row wants sessions in Redis, and Redis is off: the legacy store serves all of them", _BUMP,
        severity="warning",
    ),
    "mode-hold": Kind(
        DATA, "the fleet is on its way to mode final or back", "session-ops migrate status", severity="warning",
    ),
    "audit-broken": Kind(
        DATA, "a line of the audit was changed, removed or put in between",
        "session-ops migrate audit --last 50", MISMATCH,
    ),
    "redis-not-saved": Kind(
        DATA, "Redis cannot write its append-only file, or has none: what it has is lost at its next restart",
        "df -h /var/lib/redis; journalctl --unit=redis-server --lines=50  # on the Redis host",
    ),
    "redis-evicts": Kind(
        DATA, "Redis removes keys when its memory is full, so sessions vanish", _ROLLOUT,
    ),
    "redis-memory": Kind(
        SLOW, "Redis is near its maxmemory; above it creates and growing writes are refused",
        "session-ops cleanup --execute  # or raise redis_maxmemory and run playbooks/rollout.yml",
    ),
    "redis-no-limit": Kind(
        SLOW, "Redis has no maxmemory: it grows until the kernel kills it", _ROLLOUT, severity="warning",
    ),
    "redis-fragmented": Kind(
        SLOW, "Redis holds much more memory of the machine than its data need",
        "redis-cli MEMORY PURGE  # on the Redis host, as its administrator", severity="warning",
    ),
    "redis-slow": Kind(
        SLOW, "Redis takes long for a look that does nothing", "redis-cli SLOWLOG GET 10  # on the Redis host, as its"
        " administrator", severity="warning",
    ),
    "legacy-slow": Kind(
        SLOW, "the legacy store takes long for a look that does nothing",
        "SELECT pid, state, query_start, query FROM pg_stat_activity ORDER BY query_start;", severity="warning",
    ),
    "disk-full": Kind(
        SLOW, "a file system of this host has little room left", "df -h; journalctl --vacuum-size=200M",
    ),
    "not-prepared": Kind(
        MIGRATION, "the application's table is not ready for two stores; the service answers 503",
        "session-ops migrate prepare --execute",
    ),
    "prepare-unfinished": Kind(
        MIGRATION, "the table lacks something that this release needs: prepare was interrupted, an earlier release has"
        " done it, or somebody has changed the table", "session-ops migrate prepare --execute",
    ),
    "flags-differ": Kind(
        MIGRATION, "a host's flag is not the one that the stage row wants; any mix is correct, but sessions move to"
        " and fro", _AGAIN, severity="warning",
    ),
    "flag-not-read": Kind(
        MIGRATION, "the flag file of this host was changed and the service was not told",
        "systemctl reload session-service", severity="warning",
    ),
    "host-late": Kind(
        MIGRATION, "a serving process does not know the generation in force",
        "systemctl restart session-service  # on that host",
    ),
    "step-stopped": Kind(
        MIGRATION, "the last step of the migration was stopped; the fleet is correct as it is", _AGAIN,
        severity="warning",
    ),
    "step-left": Kind(
        MIGRATION, "a step of the migration was begun and not ended, and nobody is at work", _AGAIN,
        severity="warning",
    ),
    "run-left": Kind(
        MIGRATION, "a run of the mover has not ended, and no mover lives; nothing is lost",
        "session-ops migrate run --execute", severity="warning",
    ),
    "run-stopped": Kind(
        MIGRATION, "the last run of the mover was stopped before its end", "session-ops migrate run --execute",
        severity="warning",
    ),
    "rows-put-aside": Kind(
        MIGRATION, "rows of the application's table cannot move as they are; they stay where they are",
        "session-ops migrate quarantine list", severity="warning",
    ),
    "releases-differ": Kind(
        MIGRATION, "the hosts serve with different releases", _ROLLOUT, severity="warning",
    ),
    "settings-wrong": Kind(
        HOST, "a setting of this host cannot be used", "session-ops settings --check", USAGE,
    ),
    "clock-skew": Kind(
        HOST, "the clocks of this host, of Redis and of the legacy store differ; above 2 s the hosts leave Redis alone",
        "timedatectl status  # on each of the hosts",
    ),
    "secret-readable": Kind(
        HOST, "others on this host may read a file that holds a secret", _ROLLOUT, severity="warning",
    ),
    "version-old": Kind(
        HOST, "a program is older than what the service was tested with", "apt-get install --only-upgrade redis-server"
        "  # on the Redis host",
    ),
}  # fmt: skip
"""Every kind, by its name."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was found. `says`: what was seen; the rest is its kind's."""

    name: str
    severity: Severity
    says: str
    means: str
    mend: str


def finding(name: str, says: str, severity: Severity | None = None) -> Finding:
    """A finding of the kind `name`."""
    kind = KINDS[name]
    return Finding(name=name, severity=severity or kind.severity, says=says, means=kind.means, mend=kind.mend)


def code_of(findings: list[Finding]) -> int:
    """The exit code: the worst error's; 0 where there are only warnings."""
    codes = {KINDS[each.name].code for each in findings if each.severity == "error"}
    return next((code for code in _WORST_FIRST if code in codes), 0)
