"""ACL users in one normal form, so that rules in YAML, lines of ACL LIST and lines of the ACL file can be compared."""

from __future__ import annotations

import dataclasses
import hashlib

_ALIASES = {
    "allkeys": "~*",
    "allchannels": "&*",
    "allcommands": "+@all",
    "nocommands": "-@all",
}
# What `ACL SETUSER name reset` leaves; 7.0 prints none of it or all of it, depending on the version.
_IGNORED = frozenset(("sanitize-payload", "resetkeys", "resetchannels", "resetpass"))


@dataclasses.dataclass(frozen=True)
class User:
    """One user: what it is called and what it may do.

    The order of keys, channels and passwords says nothing. That of the command rules does, but for additions behind
    the last removal, which Redis prints in an order of its own.
    """

    name: str
    enabled: bool
    flags: frozenset[str]
    passwords: frozenset[str]
    keys: frozenset[str]
    channels: frozenset[str]
    commands: tuple[str, ...]
    selectors: frozenset[str] = frozenset()


def parse(name: str, rules: list[str]) -> User:
    """Return the user that `ACL SETUSER name reset <rules>` would make.

    A rule `>secret` counts as its SHA-256, which is all that Redis keeps.
    """
    enabled = False
    found: dict[str, set[str]] = {"flags": set(), "passwords": set(), "keys": set(), "channels": set()}
    commands = ["-@all"]
    selectors: set[str] = set()
    for written in _grouped(rules):
        rule = _ALIASES.get(written, written)
        if rule in ("on", "off"):
            enabled = rule == "on"
        elif rule in _IGNORED:
            if rule != "sanitize-payload":
                found[{"resetkeys": "keys", "resetchannels": "channels", "resetpass": "passwords"}[rule]].clear()
        elif rule[0] == ">":
            found["passwords"].add(digest(rule[1:]))
        elif rule[0] == "#":
            found["passwords"].add(rule[1:].lower())
        elif rule[0] in "~%":
            found["keys"].add(rule.replace("%RW~", "~").replace("%WR~", "~"))
        elif rule[0] == "&":
            found["channels"].add(rule)
        elif rule[0] == "(":
            selectors.add(rule)
        elif rule[0] in "+-":
            _command(commands, rule.lower())
        else:
            found["flags"].add(rule)
    return User(
        name=name,
        enabled=enabled,
        flags=frozenset(found["flags"]),
        passwords=frozenset(found["passwords"]),
        keys=frozenset({"~*"} if "~*" in found["keys"] else found["keys"]),
        channels=frozenset({"&*"} if "&*" in found["channels"] else found["channels"]),
        commands=_ordered(commands),
        selectors=frozenset(selectors),
    )


def parse_lines(lines: list[str]) -> dict[str, User]:
    """Return the users of ACL LIST or of an ACL file, by name."""
    users = [line.split() for line in lines if line.startswith("user ")]
    return {words[1]: parse(words[1], words[2:]) for words in users}


def line(user: User) -> str:
    """Return the user's line of an ACL file."""
    return " ".join(["user", user.name, *words(user)])


def words(user: User) -> list[str]:
    """Return the rules that make this user from one that has just been reset; no plain password among them."""
    return [
        "on" if user.enabled else "off",
        *sorted(user.flags),
        *sorted("#" + password for password in user.passwords),
        *sorted(user.keys),
        "resetchannels",
        *sorted(user.channels),
        *user.commands,
        *sorted(user.selectors),
    ]


def described(user: User) -> str:
    """Return the user's line for people: a password shows only that there is one."""
    return line(dataclasses.replace(user, passwords=frozenset("(password)" for _ in user.passwords))).replace("#(", "(")


def digest(password: str) -> str:
    """Return the form in which Redis keeps a password."""
    return hashlib.sha256(password.encode()).hexdigest()


def _command(commands: list[str], rule: str) -> None:
    if rule in ("+@all", "-@all"):
        commands[:] = [rule]
        return
    # A later rule for the same command replaces the earlier one.
    commands[:] = [known for known in commands if known[1:] != rule[1:]]
    commands.append(rule)


def _ordered(commands: list[str]) -> tuple[str, ...]:
    last_removal = max((i for i, rule in enumerate(commands) if rule[0] == "-"), default=-1)
    return (*commands[: last_removal + 1], *sorted(commands[last_removal + 1 :]))


def _grouped(rules: list[str]) -> list[str]:
    """Join the words of a selector, `(` to `)`, into one rule."""
    grouped: list[str] = []
    for word in " ".join(rules).split():
        if grouped and grouped[-1][0] == "(" and not grouped[-1].endswith(")"):
            grouped[-1] += " " + word
        else:
            grouped.append(word)
    return grouped
