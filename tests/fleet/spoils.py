"""Ways in which a host is wrong: what spoils it, what heals it, and the test of the host suite that must see it."""

from __future__ import annotations

from dataclasses import dataclass

EVERY = "test_every_host.py"
REDIS = "test_redis_host.py"
SERVICE = "test_service_host.py"
SECRET = "test_no_secret_is_readable.py"

# Redis' administrator, as the suite asks it: the password stays in root's file and environment.
ADMINISTRATOR = (
    'export REDISCLI_AUTH="$(cat /etc/redis/administrator.password)"; '
    'redis() { redis-cli --no-auth-warning --user administrator -e "$@" > /dev/null; }; '
)


@dataclass(frozen=True)
class Spoil:
    """One thing wrong: shell to cause it and to heal it, and what the failure must say."""

    name: str
    host: str
    file: str
    spoil: str
    heal: str
    caught_by: str
    naming: str


SPOILS = [
    Spoil(
        name="the service is stopped",
        host="app1",
        file=EVERY,
        spoil="systemctl stop session-service.socket session-service.service",
        heal="systemctl start session-service.socket session-service.service",
        caught_by="test_every_unit_is_active_and_starts_at_boot",
        naming="session-service.socket",
    ),
    Spoil(
        name="the socket does not start at boot",
        host="app2",
        file=EVERY,
        spoil="systemctl disable --quiet session-service.socket",
        heal="systemctl enable --quiet session-service.socket",
        caught_by="test_every_unit_is_active_and_starts_at_boot",
        naming="session-service.socket",
    ),
    Spoil(
        name="a further port is open",
        host="redis1",
        file=EVERY,
        # systemd holds the port itself, so it is open when this returns.
        spoil="systemd-run --quiet --unit=spoilt --socket-property=ListenStream=4444 true",
        heal="systemctl stop spoilt.socket",
        caught_by="test_no_other_port_is_open",
        naming=":4444",
    ),
    Spoil(
        name="the sandbox is opened by a drop-in",
        host="app1",
        file=EVERY,
        spoil="mkdir -p /etc/systemd/system/session-service.service.d; "
        "printf '[Service]\\nSystemCallFilter=\\nProtectSystem=no\\nNoNewPrivileges=no\\nPrivateDevices=no\\n"
        "CapabilityBoundingSet=CAP_SYS_ADMIN\\nRestrictNamespaces=no\\n' "
        "> /etc/systemd/system/session-service.service.d/spoilt.conf; systemctl daemon-reload",
        heal="rm -f /etc/systemd/system/session-service.service.d/spoilt.conf; "
        "rmdir --ignore-fail-on-non-empty /etc/systemd/system/session-service.service.d; systemctl daemon-reload",
        caught_by="test_the_services_are_sandboxed",
        naming="session-service.service",
    ),
    Spoil(
        name="Redis has another maxmemory",
        host="redis1",
        file=REDIS,
        spoil=ADMINISTRATOR + "redis CONFIG SET maxmemory 100000000",
        heal=ADMINISTRATOR + "redis CONFIG SET maxmemory {redis_maxmemory}",
        caught_by="test_redis_runs_with_the_settings_of_the_inventory",
        naming="'maxmemory': '100000000'",
    ),
    Spoil(
        name="Redis has a further user",
        host="redis1",
        file=REDIS,
        spoil=ADMINISTRATOR + "redis ACL SETUSER intruder on nopass '~*' +@all",
        heal=ADMINISTRATOR + "redis ACL DELUSER intruder",
        caught_by="test_redis_has_just_the_users_of_the_inventory",
        naming="intruder",
    ),
    Spoil(
        name="the default user of Redis is on",
        host="redis1",
        file=REDIS,
        spoil=ADMINISTRATOR + "redis ACL SETUSER default on",
        heal=ADMINISTRATOR + "redis ACL SETUSER default off",
        caught_by="test_nobody_can_log_in_as_the_default_user",
        naming="the default user is",
    ),
    Spoil(
        name="the user that replays the AOF has lost its rights",
        host="redis1",
        file=REDIS,
        spoil=ADMINISTRATOR + "redis ACL SETUSER default -@all",
        heal=ADMINISTRATOR + "redis ACL SETUSER default +@all",
        caught_by="test_nobody_can_log_in_as_the_default_user",
        naming="a restart loses writes",
    ),
    Spoil(
        name="the service user may list all keys",
        host="redis1",
        file=REDIS,
        spoil=ADMINISTRATOR + "redis ACL SETUSER session-service +keys",
        heal=ADMINISTRATOR + "redis ACL LOAD",
        caught_by="test_the_service_user_may_not",
        naming="may KEYS",
    ),
    Spoil(
        name="Redis takes itself for another one after an hour without replicas",
        host="redis1",
        file=REDIS,
        spoil=ADMINISTRATOR + "redis CONFIG SET repl-backlog-ttl 3600",
        heal=ADMINISTRATOR + "redis CONFIG SET repl-backlog-ttl 0",
        caught_by="test_redis_runs_with_the_settings_of_the_inventory",
        naming="'repl-backlog-ttl': '3600'",
    ),
    Spoil(
        name="Redis was given up while the flag is on",
        host="app1",
        file=SERVICE,
        spoil="session-ops generation bump --no-redis --execute",
        heal="session-ops generation bump --execute",
        caught_by="test_beside_a_legacy_store_this_host_serves_the_generation_in_force",
        naming="the flag is on and Redis is off",
    ),
    Spoil(
        name="the function library is gone",
        host="redis1",
        file=REDIS,
        spoil=ADMINISTRATOR + "redis FUNCTION FLUSH",
        heal="systemctl restart session-functions.service",
        caught_by="test_the_function_libraries_are_loaded_as_released",
        naming="libraries not loaded",
    ),
    Spoil(
        name="the data directory is open to others",
        host="redis1",
        file=REDIS,
        spoil="chmod 0755 /var/lib/redis",
        heal="chmod 0750 /var/lib/redis",
        caught_by="test_files_and_directories_have_their_owners_and_modes",
        naming="/var/lib/redis",
    ),
    Spoil(
        name="a credential has the wrong mode",
        host="app2",
        file=SERVICE,
        spoil="chmod 0644 /etc/session-ops/credentials/redis-password",
        heal="chmod 0600 /etc/session-ops/credentials/redis-password",
        caught_by="test_files_and_directories_have_their_owners_and_modes",
        naming="redis-password",
    ),
    Spoil(
        name="the service cannot read its flag",
        host="app1",
        file=SERVICE,
        spoil="chmod 0600 /etc/session-ops/flag",
        heal="chmod 0644 /etc/session-ops/flag",
        caught_by="test_files_and_directories_have_their_owners_and_modes",
        naming="/etc/session-ops/flag",
    ),
    Spoil(
        name="the flag changed and the service was not told",
        host="app2",
        file=SERVICE,
        spoil="sed -i 's/SESSION_REDIS_PERCENT=100/SESSION_REDIS_PERCENT=7/' /etc/session-ops/flag",
        heal="sed -i 's/SESSION_REDIS_PERCENT=7/SESSION_REDIS_PERCENT=100/' /etc/session-ops/flag",
        caught_by="test_the_flag_of_the_service_is_the_flag_on_disk",
        naming="was not reloaded",
    ),
    Spoil(
        name="the release link leads elsewhere",
        host="app1",
        file=SERVICE,
        spoil="readlink /opt/session-ops/current > /root/spoilt; ln -sfn /srv /opt/session-ops/current",
        heal='ln -sfn "$(cat /root/spoilt)" /opt/session-ops/current; rm /root/spoilt',
        caught_by="test_the_link_leads_to_a_complete_release",
        naming="leads to /srv",
    ),
    Spoil(
        name="the release was never completed",
        host="app2",
        file=SERVICE,
        spoil="mv /opt/session-ops/current/.complete /opt/session-ops/current/.spoilt",
        heal="mv /opt/session-ops/current/.spoilt /opt/session-ops/current/.complete",
        caught_by="test_the_link_leads_to_a_complete_release",
        naming="was never completed",
    ),
    Spoil(
        name="a secret is in a file that others can read",
        host="app1",
        file=SECRET,
        spoil="install -m 0644 /etc/session-ops/credentials/redis-password /var/tmp/spoilt",
        heal="rm /var/tmp/spoilt",
        caught_by="test_no_file_that_others_can_read_carries_a_secret",
        naming="redis_service_password",
    ),
    Spoil(
        name="a secret is on a command line",
        host="app2",
        file=SECRET,
        spoil="systemd-run --quiet --unit=spoilt --service-type=exec bash -c "
        "'exec -a \"$(cat /etc/session-ops/credentials/redis-password)\" sleep 300'; "
        # bash has become sleep when the name changes; there is nothing to wait on but the name itself.
        'until [ "$(cat /proc/$(systemctl show --value --property=MainPID spoilt)/comm)" = sleep ]; do :; done',
        heal="systemctl stop spoilt.service",
        caught_by="test_no_command_line_carries_a_secret",
        naming="redis_service_password",
    ),
    Spoil(
        name="a secret is in the environment of another user's process",
        host="app1",
        file=SECRET,
        spoil="systemd-run --quiet --unit=spoilt --service-type=exec --uid=nobody "
        '--setenv=PASSWORD="$(cat /etc/session-ops/credentials/redis-password)" sleep 300',
        heal="systemctl stop spoilt.service",
        caught_by="test_no_environment_but_that_of_root_carries_a_secret",
        naming="redis_service_password",
    ),
]
