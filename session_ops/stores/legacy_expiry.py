"""When a session in SQL ends: the rule of expiry.py as an expression that the database evaluates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, func

from session_ops.stores.expiry import STEPS
from session_ops.stores.legacy_prepared import digits

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

    from session_ops.stores.legacy_dialects import Dialect


def first(dialect: Dialect, own: ColumnElement[int], *, ttl: int, max_lifetime: int) -> ColumnElement[int]:
    """The expiry (ms) of a session created now. `own`, `ttl` and `max_lifetime` (0: none) as in `slid`."""
    now = dialect.now()
    expires = now + func.coalesce(own, digits(ttl), type_=BigInteger) * digits(1000)
    return dialect.lesser(expires, now + digits(max_lifetime * 1000)) if max_lifetime else expires


def slid(
    dialect: Dialect, created: ColumnElement[int], own: ColumnElement[int], *, ttl: int, max_lifetime: int
) -> ColumnElement[int]:
    """now + ttl, rounded up to a step counted from the creation, within the maximum lifetime.

    `own` is the session's own TTL, `ttl` the default, `max_lifetime` 0 for none; all in seconds. The result is in ms.
    """
    used = func.coalesce(own, digits(ttl), type_=BigInteger)
    step = used * digits(1000 // STEPS)
    until = dialect.now() + used * digits(1000) - created
    expires = created + (until + step - digits(1)) // step * step
    if not max_lifetime:
        return expires
    return dialect.lesser(expires, created + digits(max_lifetime * 1000))
