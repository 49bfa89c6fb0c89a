"""Bodies in and out: JSON with a size limit, decoded into exactly the fields that the contract names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from session_ops.api.problems import Problem

if TYPE_CHECKING:
    from falcon.asgi import Request

    from session_ops.records import Changed, Session


class CreateBody(msgspec.Struct, forbid_unknown_fields=True):
    """POST /v1/sessions."""

    user_id: str
    agent_id: str | None = None
    data: dict[str, Any] = {}
    ttl: int | float | None = None

    def whole_ttl(self) -> int | None:
        """The TTL in seconds; JSON Schema counts 60.0 among the integers. Raises `Problem` for a fraction."""
        if isinstance(self.ttl, float):
            if not self.ttl.is_integer():
                raise Problem(400, "bad-request", "ttl: whole seconds")
            return int(self.ttl)
        return self.ttl


class DataBody(msgspec.Struct, forbid_unknown_fields=True):
    """PATCH and PUT of a session."""

    data: dict[str, Any]


class SessionView(msgspec.Struct):
    """A session as the API shows it: everything but the protocol's version."""

    id: str
    user_id: str
    agent_id: str | None
    data: dict[str, Any] | msgspec.Raw
    created_at: int
    updated_at: int
    expires_at: int
    revision: str


class PageView(msgspec.Struct):
    """One page of a list."""

    sessions: list[SessionView]
    cursor: str | None


Body = TypeVar("Body", CreateBody, DataBody)

encode = msgspec.json.Encoder().encode
_DECODERS: dict[type, msgspec.json.Decoder[Any]] = {kind: msgspec.json.Decoder(kind) for kind in (CreateBody, DataBody)}


def view(session: Session) -> SessionView:
    """What the API shows of a session."""
    return SessionView(
        session.id,
        session.user_id,
        session.agent_id,
        session.shown(),
        session.created_at,
        session.updated_at,
        session.expires_at,
        session.revision,
    )


def etag(session: Session | Changed) -> str:
    """The strong entity tag of a session: its revision, which a touch or a move leaves as it is."""
    return f'"{session.revision}"'


async def read_body(req: Request, kind: type[Body], limit: int) -> Body:
    """Read and decode a JSON body of at most `limit` bytes.

    Raises `Problem`: 415 for another media type, 413 when it is too long (without reading on), 400 for anything that
    is not JSON of this shape.
    """
    media_type = (req.content_type or "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Problem(415, "unsupported-media-type", "send the body as application/json")
    length = req.content_length
    if length is not None and length > limit:
        raise Problem(413, "too-large", f"the body has {length} bytes; {limit} are allowed")
    content = await req.stream.read(limit + 1)
    if len(content) > limit:
        raise Problem(413, "too-large", f"the body has more than the {limit} bytes allowed")
    try:
        body: Body = _DECODERS[kind].decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        detail = "the body is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise Problem(400, "bad-request", f"the body is not as the contract says: {detail}") from None
    return body
