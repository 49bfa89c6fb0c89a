"""The backups of one host at a destination: which there are, which are whole, and which have had their time."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from session_ops.backup.manifest import MANIFEST, SNAPSHOT, Manifest

if TYPE_CHECKING:
    from session_ops.backup.destination import Destination

_NAME: Final = re.compile(r"sessions-(?P<host>.+)-(?P<at>\d{8}T\d{6}Z)")
_TIME: Final = "%Y%m%dT%H%M%SZ"


class Kept(NamedTuple):
    """A backup at the destination; `size` in bytes, None where its snapshot is missing."""

    name: str
    at: datetime
    size: int | None


def name_of(host: str, at: int) -> str:
    """The name of a host's backup whose snapshot began at `at` (ms)."""
    return f"sessions-{host}-{datetime.fromtimestamp(at / 1000, UTC).strftime(_TIME)}"


def kept(sizes: dict[str, int], host: str) -> list[Kept]:
    """The host's backups that have a manifest, oldest first."""
    found = []
    for file in sorted(sizes):
        match = _NAME.fullmatch(file.removesuffix(MANIFEST))
        if file.endswith(MANIFEST) and match and match["host"] == host:
            at = datetime.strptime(match["at"], _TIME).replace(tzinfo=UTC)
            name = file.removesuffix(MANIFEST)
            found.append(Kept(name, at, sizes.get(name + SNAPSHOT)))
    return sorted(found, key=lambda each: each.at)


def superfluous(found: list[Kept], *, keep: int, keep_days: int) -> list[str]:
    """Names of those that are neither among the newest `keep` nor the last of one of the newest `keep_days` days."""
    last_of_days = {each.at.date(): each.name for each in found}
    days = sorted(last_of_days)[-keep_days:] if keep_days else []
    wanted = {each.name for each in found[-keep:]} | {last_of_days[day] for day in days}
    return [each.name for each in found if each.name not in wanted]


def remains(sizes: dict[str, int], host: str) -> list[str]:
    """Files of the host's backups that have no manifest: what was cut short."""
    names = {each.name for each in kept(sizes, host)}
    files = [file for file in sorted(sizes) if file.endswith(SNAPSHOT)]
    matches = ((file, _NAME.fullmatch(file.removesuffix(SNAPSHOT))) for file in files)
    return [file for file, match in matches if match and match["host"] == host and match[0] not in names]


def manifests(destination: Destination, pattern: str) -> dict[str, Manifest]:
    """The manifests of the backups whose names match `pattern`; those that cannot be read are left out."""
    found = {}
    for line in destination.lines(pattern + MANIFEST):
        with suppress(msgspec.DecodeError):
            manifest = msgspec.json.decode(line, type=Manifest)
            found[manifest.name] = manifest
    return found


def spoilt(destination: Destination, host: str, *, whole: bool) -> tuple[int, list[str]]:
    """How many backups a host has, and what is wrong with some of them. With `whole` each is read to its end."""
    there = kept(destination.sizes(), host)
    known = manifests(destination, f"sessions-{host}-*")
    wrong = []
    for each in there:
        manifest = known.get(each.name)
        if manifest is None:
            wrong.append(f"{each.name}: its manifest cannot be read")
        elif each.size is None:
            wrong.append(f"{each.name}: its snapshot is missing")
        elif each.size != manifest.stored.bytes:
            wrong.append(f"{each.name}: {each.size:,} bytes, not {manifest.stored.bytes:,}")
        elif whole and destination.digest(each.name + SNAPSHOT) != manifest.stored.sha256:
            wrong.append(f"{each.name}: its content is not what was stored")
    return len(there), wrong
