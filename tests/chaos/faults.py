"""The faults of the fault matrix, as data: shell to inject each and to heal it, what shows that it is there, and what
must hold meanwhile, with the mirror on and in mode final.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Literal

from tests.chaos.shell import HEAL_CUT, HEAL_SLOW, answers_late, cut, kill, out_of_reach, runs_anew, slow
from tests.fleet.spoils import ADMINISTRATOR

LEASE = 3.0
FALLBACK_AFTER = 15.0
"""Seconds, as the settings SESSION_LEASE and SESSION_FALLBACK_AFTER have them by default."""


CUT_OFF_AFTER = LEASE + 2
"""Seconds until a host that reaches no Redis says that it is not ready: a lease, a beat to notice, a start."""


class Where(enum.Enum):
    """Which hosts a fault is injected on."""

    REDIS = "redis"
    LEGACY = "legacy"
    ONE_SERVICE = "one service host"
    EVERY_SERVICE = "every service host, one after the other"


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """What must hold under a fault. Times are seconds; None: as long as the fault lasts."""

    silence: float | None = 1.5
    """The longest time in which no request at all is acknowledged."""
    one_session: float | None = 3.0
    """The longest time in which the reads or the changes of some session are asked for and not acknowledged."""
    after: float = 5.0
    """The longest silence of all from the healing on."""
    ready: Literal["every", "other", "any"] = "any"
    """Which service hosts are ready at the end of the fault: every one, every other than the faulty, or it is open."""
    moves: bool = False
    """Whether the sessions go to a new generation, and so back to the legacy store."""
    fails: bool = True
    """Whether requests may fail."""
    loses: bool = False
    """Whether acknowledged writes may be lost."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault. The scripts are for bash with -eu, as root; $REDIS and $LEGACY are the stores' addresses."""

    name: str
    where: Where
    inject: str
    effect: str
    """Exits with 0 once the fault has taken effect, on the same host."""
    heal: str = "true"
    hold: float = 0.0
    """Seconds that the fault has to last at least, to show what it does."""
    recovery: float = 30.0
    """Seconds within which the fleet is healthy again behind the healing."""
    bumps: int = 0
    """How often the hosts bump because of it."""
    mirror: Expectation
    final: Expectation | None
    """None: without a mirror the fault destroys what nobody can bring back."""


START_REDIS = "systemctl start redis-server.service session-functions.service"
ENVIRONMENT = "/etc/session-ops/environment"
FLAG = "/etc/session-ops/flag"

# The other host serves at once, and a request that the faulty one has refused is sent there next; the one after that
# may come to the faulty one again.
ONE_HOST = Expectation(one_session=8.0, ready="other")
UNNOTICED = Expectation(one_session=2.0, ready="every", fails=False)

FAULTS = [
    Fault(
        name="redis killed",
        where=Where.REDIS,
        inject=kill("redis-server"),
        effect=runs_anew("redis-server"),
        heal=START_REDIS,
        bumps=1,
        mirror=Expectation(silence=LEASE + 4, one_session=LEASE + 4, moves=True),
        # What the kernel had not been given when it died: appendfsync everysec may hold back 2 s.
        final=Expectation(silence=5.0, one_session=6.0, loses=True),
    ),
    Fault(
        name="redis restarted without its AOF's end",
        where=Where.REDIS,
        inject=kill("redis-server")
        + f"""
systemctl stop redis-server
file=$(ls -v /var/lib/redis/appendonlydir/*.incr.aof | tail -n 1)
size=$(stat -c %s "$file")
echo "$size" > /run/chaos-size
truncate -s $(( size > 131072 ? size - 65536 : size / 2 )) "$file"
{START_REDIS}
""",
        effect=runs_anew("redis-server"),
        heal=START_REDIS,
        bumps=1,
        mirror=Expectation(silence=LEASE + 5, one_session=LEASE + 5, moves=True),
        final=Expectation(silence=5.0, one_session=6.0, loses=True),
    ),
    Fault(
        name="redis flushed",
        where=Where.REDIS,
        inject=f"{ADMINISTRATOR}\nredis FLUSHALL",
        effect=f"{ADMINISTRATOR}\n"
        "redis-cli --no-auth-warning --user administrator INFO commandstats | grep cmdstat_flushall",
        bumps=1,
        mirror=Expectation(silence=2.0, one_session=2.0, moves=True),
        final=None,
    ),
    Fault(
        name="redis gone for good",
        where=Where.REDIS,
        inject="systemctl stop redis-server\nrm -rf /var/lib/redis/appendonlydir",
        effect="[ ! -e /var/lib/redis/appendonlydir ]\n! systemctl is-active --quiet redis-server",
        heal=START_REDIS,
        hold=FALLBACK_AFTER + LEASE + 6,
        # The hosts take a Redis that came back only after it has answered all of them for 60 s.
        recovery=100.0,
        bumps=2,
        mirror=Expectation(
            silence=FALLBACK_AFTER + LEASE + 4, one_session=FALLBACK_AFTER + LEASE + 4, ready="every", moves=True
        ),
        final=None,
    ),
    Fault(
        name="redis slow",
        where=Where.EVERY_SERVICE,
        inject=slow("$REDIS", 6379),
        effect=answers_late("$REDIS", 6379, r'b"PING\r\n"'),
        heal=HEAL_SLOW,
        mirror=Expectation(silence=3.0, one_session=5.0),
        final=Expectation(silence=3.0, one_session=5.0, ready="every"),
    ),
    Fault(
        name="legacy stopped",
        where=Where.LEGACY,
        inject="systemctl stop postgresql.service",
        effect="! (ss -Hlnt 'sport = :5432' | grep .)",
        heal="systemctl start postgresql.service",
        mirror=Expectation(silence=None, one_session=None),
        final=UNNOTICED,
    ),
    Fault(
        name="legacy slow",
        where=Where.EVERY_SERVICE,
        inject=slow("$LEGACY", 5432),
        # SSLRequest, as any client begins.
        effect=answers_late("$LEGACY", 5432, 'bytes.fromhex("0000000804d2162f")'),
        heal=HEAL_SLOW,
        mirror=Expectation(silence=4.0, one_session=8.0),
        final=UNNOTICED,
    ),
    Fault(
        name="service killed",
        where=Where.ONE_SERVICE,
        inject=kill("session-service"),
        effect=runs_anew("session-service"),
        mirror=Expectation(one_session=6.0, ready="every"),
        final=Expectation(one_session=6.0, ready="every"),
    ),
    Fault(
        name="service stopped and continued",
        where=Where.ONE_SERVICE,
        inject="systemctl kill --signal=STOP session-service",
        effect='grep "^State:.T" "/proc/$(systemctl show -P MainPID session-service)/status"',
        heal="systemctl kill --signal=CONT session-service",
        # Requests to the host that stands hang until the caller gives up, after 4 s: until then all of its callers may.
        mirror=Expectation(silence=4.0, one_session=None, ready="other"),
        final=Expectation(silence=4.0, one_session=None, ready="other"),
    ),
    Fault(
        name="service cut off from redis",
        where=Where.ONE_SERVICE,
        inject=cut("$REDIS"),
        effect=out_of_reach("$REDIS", 6379),
        heal=HEAL_CUT,
        hold=CUT_OFF_AFTER,
        mirror=ONE_HOST,
        final=ONE_HOST,
    ),
    Fault(
        name="service cut off from legacy",
        where=Where.ONE_SERVICE,
        inject=cut("$LEGACY"),
        effect=out_of_reach("$LEGACY", 5432),
        heal=HEAL_CUT,
        mirror=Expectation(one_session=8.0),
        final=UNNOTICED,
    ),
    Fault(
        name="service with a wrong Redis address",
        where=Where.ONE_SERVICE,
        inject=f"""
cp -p {ENVIRONMENT} {ENVIRONMENT}.chaos
sed -i "s/^REDIS_HOST=.*/REDIS_HOST=${{REDIS%.*}}.250/" {ENVIRONMENT}
systemctl restart session-service
""",
        effect=f"grep '^REDIS_HOST=.*[.]250$' {ENVIRONMENT}",
        heal=f"mv {ENVIRONMENT}.chaos {ENVIRONMENT}\nsystemctl restart session-service",
        hold=CUT_OFF_AFTER,
        mirror=ONE_HOST,
        final=ONE_HOST,
    ),
    Fault(
        name="mover killed",
        where=Where.ONE_SERVICE,
        # It has moved for a second at most; on a fleet whose flags flip there is something to move.
        inject="""
/usr/local/sbin/session-ops migrate run --execute --take-over > /run/chaos-mover 2>&1 < /dev/null &
echo $! > /run/chaos-pid
sleep "1.$((RANDOM % 10))"
kill -9 "$(cat /run/chaos-pid)" 2> /dev/null || true
""",
        effect='! kill -0 "$(cat /run/chaos-pid)" 2> /dev/null',
        mirror=UNNOTICED,
        final=UNNOTICED,
    ),
    Fault(
        name="flag flipped host by host",
        where=Where.EVERY_SERVICE,
        inject=f"cp -p {FLAG} {FLAG}.chaos\n"
        f"sed -i s/^USE_REDIS_SESSIONS=.*/USE_REDIS_SESSIONS=false/ {FLAG}\nsystemctl reload session-service",
        effect=f"grep '^USE_REDIS_SESSIONS=false$' {FLAG}",
        heal=f"mv {FLAG}.chaos {FLAG}\nsystemctl reload session-service",
        mirror=UNNOTICED,
        final=UNNOTICED,
    ),
]


def named(name: str) -> Fault:
    """The fault of this name. Raises `KeyError` for a name that none has."""
    return {fault.name: fault for fault in FAULTS}[name]
