"""What the statements of a legacy store answer, as records; and the position in a list, as a cursor."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

from session_ops.errors import InvalidSessionError, StoreUnavailableError
from session_ops.limits import is_id
from session_ops.records import Changed, Ended, Session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Row

    from session_ops.stores.contract import Order

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_quote = msgspec.json.Encoder().encode


def to_session(row: Sequence[Any]) -> Session:
    """The session in a row of `PARTS`."""
    session_id, user_id, agent_id, created_at, updated_at, expires_at, revision, version, ttl, data = row
    try:
        attributes = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StoreUnavailableError("legacy", "unreadable row") from error
    return Session(
        id=session_id,
        user_id=user_id,
        agent_id=agent_id,
        data=attributes,
        created_at=created_at,
        updated_at=updated_at,
        expires_at=expires_at,
        revision=revision,
        version=version,
        ttl=ttl,
    )


def to_changed(row: Sequence[Any]) -> Changed:
    """The bookkeeping in a row of `PARTS` without its data."""
    session_id, user_id, agent_id, created_at, updated_at, expires_at, revision, version, ttl = row
    return Changed(
        id=session_id,
        user_id=user_id,
        agent_id=agent_id,
        created_at=created_at,
        updated_at=updated_at,
        expires_at=expires_at,
        revision=revision,
        version=version,
        ttl=ttl,
    )


def with_data(changed: Changed, data: Mapping[str, Any]) -> Session:
    """The session whose bookkeeping and data are known."""
    return Session(
        id=changed.id,
        user_id=changed.user_id,
        agent_id=changed.agent_id,
        data=dict(data),
        created_at=changed.created_at,
        updated_at=changed.updated_at,
        expires_at=changed.expires_at,
        revision=changed.revision,
        version=changed.version,
        ttl=changed.ttl,
    )


def to_ended(rows: Sequence[Row[Any]]) -> list[Ended]:
    """The ends in the rows of TAKE or AGAIN, oldest first: no database keeps an order behind RETURNING."""
    ended = [
        Ended(
            id=row.id,
            user_id=row.user_id,
            agent_id=row.agent_id,
            cause="deleted" if row.deleted else "expired",
            ended_at=row.ended_at,
        )
        for row in rows
    ]
    return sorted(ended, key=lambda end: (end.ended_at, end.id))


def bucket_of(session_id: str) -> int:
    """Which percent of all sessions this one belongs to, 0 to 99 (protocol, section 1)."""
    return int.from_bytes(hashlib.sha256(session_id.encode()).digest()[:4]) % 100


def to_object(parts: Sequence[bytes]) -> str:
    """The JSON object of names and JSON values, alternating, as `encode_attributes` gives them."""
    pairs = (_quote(name.decode()) + b":" + value for name, value in zip(parts[::2], parts[1::2], strict=True))
    return (b"{" + b",".join(pairs) + b"}").decode()


def name_list(user_id: str | None, agent_id: str | None, order: Order) -> str:
    """What tells one list of this store from every other, to go into its cursors."""
    asked = msgspec.json.encode(("legacy", user_id, agent_id, order))
    return hashlib.sha256(asked).hexdigest()[:12]


def make_cursor(name: str, last: Session) -> str:
    """The cursor of the list `name` that goes on behind `last`."""
    position = msgspec.json.encode((name, last.created_at, last.id))
    return base64.urlsafe_b64encode(position).decode().rstrip("=")


def read_cursor(name: str, cursor: str) -> tuple[int, str]:
    """The creation time and id behind which the list `name` goes on. Raises `InvalidSessionError`."""
    try:
        packed = base64.b64decode(cursor.encode() + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        made_for, created_at, session_id = msgspec.json.decode(packed, type=tuple[str, int, str])
    except (binascii.Error, UnicodeError, msgspec.DecodeError) as error:
        raise InvalidSessionError("cursor: not one of this list") from error
    if made_for != name or not 0 <= created_at < 2**63 or not is_id(session_id):
        raise InvalidSessionError("cursor: not one of this list")
    return created_at, session_id
