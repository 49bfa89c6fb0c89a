"""Shell that several faults share: links that are cut, and stores that answer late. For bash with -eu, as root."""

from __future__ import annotations

from pathlib import Path

DELAY = 0.3
"""Seconds that a slow store's answer takes longer: below its deadline of 1 s, so that it is slow and not dead."""

NFT = """
command -v nft > /dev/null || {
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nftables
} > /dev/null 2>&1
"""

HEAL_CUT = "nft delete table inet chaos"
HEAL_SLOW = "nft delete table ip chaos\nsystemctl stop chaos-delay"


def kill(unit: str) -> str:
    """End a unit's main process at once, and note which one it was."""
    return f'systemctl show -P MainPID {unit} > /run/chaos-pid\nkill -9 "$(cat /run/chaos-pid)"\n'


def runs_anew(unit: str) -> str:
    """Whether the unit runs, in another process than the one that was killed."""
    return f"""
[ "$(systemctl show -P ActiveState {unit})" = active ]
! cmp -s /run/chaos-pid <(systemctl show -P MainPID {unit})
"""


def cut(address: str) -> str:
    """Drop everything between this host and the address, without a word to either side."""
    return f"""{NFT}
nft -f - <<RULES
table inet chaos {{
  chain out {{ type filter hook output priority 0; ip daddr {address} drop; }}
  chain in {{ type filter hook input priority 0; ip saddr {address} drop; }}
}}
RULES
"""


def out_of_reach(address: str, port: int) -> str:
    """Whether no connection to the address comes about."""
    return f"! timeout 1 bash -c '</dev/tcp/'{address}/{port} 2> /dev/null"


def slow(address: str, port: int) -> str:
    """Lead the service's connections to a store through the delay proxy; those that are open are reset when used.

    The proxy runs as root, whose connections are left alone.
    """
    theirs = f"ip daddr {address} tcp dport {port} meta skuid != 0"
    return f"""{NFT}
cat > /run/chaos-delay.py <<'PROXY'
{Path(__file__).with_name("delay.py").read_text()}
PROXY
systemd-run --quiet --unit=chaos-delay python3 /run/chaos-delay.py {port + 10000} {address} {port} {DELAY}
for _ in $(seq 50); do
  bash -c '</dev/tcp/127.0.0.1/{port + 10000}' 2> /dev/null && break
  sleep 0.1
done
nft -f - <<RULES
table ip chaos {{
  chain lead {{ type nat hook output priority -100; {theirs} redirect to :{port + 10000}; }}
  chain out {{ type filter hook output priority 0; {theirs} reject with tcp reset; }}
}}
RULES
"""


def answers_late(address: str, port: int, question: str) -> str:
    """Whether a user's question to the store, a Python expression, is answered, and late."""
    return f"""
setpriv --reuid=nobody --regid=nogroup --clear-groups python3 - {address} <<'ASK'
import socket, sys, time
began = time.monotonic()
with socket.create_connection((sys.argv[1], {port}), 5) as line:
    line.sendall({question})
    answered = bool(line.recv(1))
sys.exit(not (answered and time.monotonic() - began > {DELAY}))
ASK
"""
