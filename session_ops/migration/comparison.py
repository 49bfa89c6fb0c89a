"""Whether the two stores say the same of a session: one row, one record, one verdict (docs/ownership.md, section 13).

Nothing here asks a store. A verdict says what is wrong, which fields, and whether a step of the protocol puts it right
or a person has to decide. Of a user, an agent and attributes it shows fingerprints only.
"""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, Any, Final

import msgspec

from session_ops.errors import InvalidSessionError
from session_ops.limits import encode_text
from session_ops.records import Session
from session_ops.stores.layout import pack_head
from session_ops.stores.legacy_rows import bucket_of, to_changed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from session_ops.records import Record

BY_HAND: Final = "a person decides: "

KINDS: Final = {
    "not arrived": "PUT: the row says Redis, which has nothing of it: a move that was cut short",
    "not returned": "APPLY: Redis has given it back, and the row does not say so yet",
    "not ended": "APPLY: it was ended in Redis, and the row does not say so yet",
    "mirror behind": "APPLY: Redis has a change that the row lacks",
    "bucket": "the bucket of the row is set to that of its id",
    "content": BY_HAND + "the version is the same and the content is not; the next write through the service makes the"
    " row what Redis has",
    "redis behind": BY_HAND + "Redis has an older version than the row: it was rewound, or restored; `session-ops"
    " generation bump --execute` gives every session back to the legacy store",
    "two owners": BY_HAND + "the row is the legacy store's, and Redis serves it too; `session-ops generation bump"
    " --execute` leaves it to the legacy store",
    "ended in the row": BY_HAND + "the row has ended, and Redis serves the session; end it: `session-ops sessions"
    " delete ID --execute`, or bump",
    "no row": BY_HAND + "Redis serves it, and the legacy store does not know it; end it: `session-ops sessions"
    " delete ID --execute`, or bump",
    "unreadable": BY_HAND + "what is stored is no session; `session-ops migrate plan` and `quarantine list` say more",
}
"""What can be wrong, and what puts it right."""

OWNER, GENERATION, DELETED, BUCKET = 10, 11, 12, 13
"""Where a row of `Moves.page` has them."""

_MASKED: Final = frozenset({"user_id", "agent_id", "data"})
_FIELDS: Final = ("user_id", "agent_id", "data", "created_at", "updated_at", "expires_at", "revision", "ttl", "version")
_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A row as `Moves.page` gives it. `session` None: it cannot be read as one."""

    id: str
    owner: str
    generation: int
    deleted: bool
    bucket: int | None
    expires_at: int | None
    version: int
    session: Session | None

    def in_redis(self, generation: int) -> bool:
        """Whether Redis owns it."""
        return self.owner == "redis" and self.generation == generation and not self.deleted


class Mismatch(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with one session. `fields`: of each that differs, what the row and what Redis say; of session data
    fingerprints. `remedy`: the step that puts it right, or what a person should look at.
    """

    id: str
    kind: str
    fields: dict[str, tuple[str | int | None, str | int | None]]
    remedy: str

    @property
    def by_hand(self) -> bool:
        """Whether no step of the protocol puts it right."""
        return self.remedy.startswith(BY_HAND)


def seen(row: Sequence[Any]) -> Seen:
    """A row of `Moves.page`."""
    session_id, user_id, agent_id, created_at, updated_at, expires_at, revision, version, ttl, data = row[:10]
    owner, generation, deleted, bucket, _ = row[10:]
    try:
        session = msgspec.convert(
            {
                "id": session_id, "user_id": user_id, "agent_id": agent_id or None, "data": _decode(data),
                "created_at": created_at, "updated_at": updated_at, "expires_at": expires_at, "revision": revision,
                "version": version, "ttl": ttl or None,
            },
            Session,
        )  # fmt: skip
    except (msgspec.MsgspecError, TypeError, UnicodeDecodeError, RecursionError):
        session = None
    return Seen(
        id=session_id, owner=owner, generation=generation, deleted=bool(deleted), bucket=bucket, expires_at=expires_at,
        version=version, session=session,
    )  # fmt: skip


def surely_same(row: Sequence[Any], fields: Any, generation: int, after: int) -> bool:
    """Whether a row of `Moves.page` is a session that lives beyond `after` (ms) in Redis, and `fields`, its hash there,
    is exactly what PUT makes of it. Where it is not, `compare` says whether anything is wrong.
    """
    session_id, _, _, _, _, expires_at, _, _, _, data, owner, its, deleted, bucket, _ = row
    if owner != "redis" or its != generation or deleted or (expires_at or 0) <= after or type(fields) is not list:
        return False
    if len(fields) < 2 or fields[0] or bucket != bucket_of(session_id):
        return False
    try:
        parts, size = encode_text(data.encode() if type(data) is str else data)
        head = pack_head(to_changed(row[:9]), size, len(parts) // 2)
    except (
        msgspec.MsgspecError,
        InvalidSessionError,
        TypeError,
        ValueError,
        AttributeError,
        RecursionError,
        struct.error,
    ):
        return False
    # How a session is filed, its first byte, is Redis' own affair
    return fields[1][1:] == head[1:] and fields[2:] == parts


def canonical(data: dict[str, Any]) -> bytes:
    """The same bytes for what is the same JSON: however a store sorts names, and whether it writes 1 or 1.0."""
    return _encode(_plain(data))


def digest(session: Session) -> bytes:
    """The fingerprint of everything that a session is, its absolute expiry and version included; 16 bytes."""
    fields = [canonical(session.data) if name == "data" else getattr(session, name) for name in _FIELDS]
    return hashlib.sha256(msgspec.msgpack.encode([session.id, *fields])).digest()[:16]


def compare(
    session_id: str, row: Seen | None, record: Record | None, *, generation: int, after: int, unreadable: bool = False
) -> Mismatch | None:
    """What is wrong with a session; None where the stores agree, or where it ends before `after` (ms), by when one of
    them may have forgotten it. `unreadable`: there is something under its key in Redis that is no session.
    """
    kind: str | None = "unreadable" if unreadable else None
    fields: dict[str, Any] = {"record": (None, "no session")}
    if kind is None:
        kind, fields = _verdict(session_id, row, record, generation, after)
    return None if kind is None else Mismatch(id=session_id, kind=kind, fields=fields, remedy=KINDS[kind])


def _verdict(
    session_id: str, row: Seen | None, record: Record | None, generation: int, after: int
) -> tuple[str | None, dict[str, Any]]:
    served = record is not None and record.state == "active" and record.session.expires_at > after
    if row is None:
        return ("no row", _states(row, record)) if served else (None, {})
    ends = row.expires_at is None or row.expires_at <= after
    if row.deleted or not row.in_redis(generation):
        wrong = _not_redis(row, record, generation, served=served)
    elif ends and not served:
        return None, {}
    elif row.session is None:
        wrong = "unreadable"
    else:
        wrong = _of_redis(row, record)
    if wrong is not None:
        return wrong, _differing(row.session, record.session) if wrong == "content" and record else _states(row, record)
    if not ends and not row.deleted and row.bucket != bucket_of(session_id):
        return "bucket", {"bucket": (row.bucket, bucket_of(session_id))}
    return None, {}


def _not_redis(row: Seen, record: Record | None, generation: int, *, served: bool) -> str | None:
    """What is wrong with a session that the row does not leave to Redis."""
    if served:
        return "ended in the row" if row.deleted else "two owners"
    ended = record is not None and record.state == "deleted" and record.session.version > row.version
    return "not ended" if ended and not row.deleted and row.generation == generation else None


def _of_redis(row: Seen, record: Record | None) -> str | None:
    """What is wrong with a session that the row leaves to Redis."""
    if record is None:
        return "not arrived"
    newer = record.session.version > row.version
    if record.state == "moved":
        return "not returned" if newer else "not arrived"
    if record.state == "deleted":
        return "not ended" if newer else "redis behind"
    if newer:
        return "mirror behind"
    if record.session.version < row.version:
        return "redis behind"
    return "content" if _differing(row.session, record.session) else None


def _differing(one: Session | None, other: Session) -> dict[str, Any]:
    fields = {}
    for name in _FIELDS:
        ours, theirs = getattr(one, name), getattr(other, name)
        same = canonical(ours) == canonical(theirs) if name == "data" else ours == theirs
        if not same:
            fields[name] = (_shown(name, ours), _shown(name, theirs))
    return fields


def _states(row: Seen | None, record: Record | None) -> dict[str, Any]:
    """Who each store says it is, and where they are."""
    said = None if row is None else f"{row.owner}{', ended' if row.deleted else ''}"
    theirs = record.session if record is not None else None
    fields: dict[str, Any] = {
        "state": (said, None if record is None else record.state),
        "version": (None if row is None else row.version, None if theirs is None else theirs.version),
        "expires_at": (None if row is None else row.expires_at, None if theirs is None else theirs.expires_at),
    }
    if row is not None and row.session is not None and record is not None and record.state == "active":
        fields |= _differing(row.session, record.session)
    return fields


def _shown(name: str, value: Any) -> str | int | None:
    if name not in _MASKED or value is None:
        return value  # type: ignore[no-any-return]
    content = canonical(value) if name == "data" else str(value).encode()
    return f"sha256:{hashlib.sha256(content).hexdigest()[:12]}"


def _plain(value: Any) -> Any:
    if type(value) is dict:
        return {name: _plain(each) for name, each in value.items()}
    if type(value) is list:
        return [_plain(each) for each in value]
    if type(value) is float and value.is_integer():
        return int(value)
    return value
