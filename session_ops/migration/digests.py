"""Both stores in a few hundred numbers: of each part of all ids the sum of its sessions' fingerprints.

A sum does not care in which order sessions come, so that each store is read in the order that suits it. A part is some
sessions of one bucket (docs/ownership.md, section 1): parts that differ name the buckets whose rows are read again.
"""

from __future__ import annotations

import hashlib
from typing import Final

BUCKETS: Final = 100
SHARES: Final = 16
"""Parts of a bucket. Of ten million sessions a part has some 6,000."""

_LIMIT: Final = 1 << 128


def part_of(session_id: str) -> int:
    """The part that an id belongs to; its bucket is `part // SHARES`."""
    drawn = int.from_bytes(hashlib.sha256(session_id.encode()).digest()[:4])
    return drawn % BUCKETS * SHARES + drawn // BUCKETS % SHARES


class Digests:
    """The parts of one store."""

    def __init__(self, sums: list[str] | None = None) -> None:
        """`sums`: what `sums` gave."""
        self._sums = [int(each, 16) for each in sums] if sums else [0] * (BUCKETS * SHARES)

    def add(self, session_id: str, fingerprint: bytes) -> None:
        """Count one session in."""
        part = part_of(session_id)
        self._sums[part] = (self._sums[part] + int.from_bytes(fingerprint)) % _LIMIT

    def differing(self, other: Digests) -> frozenset[int]:
        """The parts in which two stores differ."""
        pairs = zip(self._sums, other._sums, strict=True)
        return frozenset(part for part, (one, two) in enumerate(pairs) if one != two)

    @property
    def whole(self) -> str:
        """The digest of the whole store."""
        return f"{sum(self._sums) % _LIMIT:032x}"

    @property
    def sums(self) -> list[str]:
        """To be kept in a file."""
        return [f"{each:x}" for each in self._sums]
