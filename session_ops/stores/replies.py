"""What Redis' refusals mean: the one place that classifies them."""

from __future__ import annotations

import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, cast

import hiredis
import msgspec

from session_ops.errors import CorruptSessionError, OutcomeUnknownError, StoreUnavailableError
from session_ops.stores.library import LIBRARY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Argument = bytes | str | int | float
ReplyError = hiredis.ReplyError
MALFORMED = (TypeError, ValueError, LookupError, AttributeError, struct.error, msgspec.MsgspecError)
"""What reading an answer of the wrong shape raises."""

pack = cast("Callable[[tuple[Argument, ...]], bytes]", hiredis.pack_command)
"""Pack one command for the wire. (The annotation that hiredis ships allows commands of one word only.)"""

NO_LIBRARY: Final = f"no functions library {LIBRARY}"
LOST: Final = "generation lost"
NOT_PRIMARY: Final = "not the primary"
NOT_EMPTY: Final = "not empty"
WRONG_MODE: Final = "wrong mode"

# By the first word of the message. All of them are decided before a command or a function starts: nothing happened.
_REFUSALS = {
    "READONLY": NOT_PRIMARY,
    "WRONGSERVER": NOT_PRIMARY,
    "LOST": LOST,
    "MODE": WRONG_MODE,
    "OOM": "out of memory",
    "NOREPLICAS": "too few replicas",
    "MISCONF": "cannot persist",
    "LOADING": "loading",
    "MASTERDOWN": "replica without its primary",
    "BUSY": "busy with a script",
    "NOPERM": "not permitted",
    "NOAUTH": "password required",
    "WRONGPASS": "wrong password",
    "EXECABORT": "transaction refused",
    "CLUSTERDOWN": "cluster down",
    "MOVED": "not the primary of this slot",
    "TRYAGAIN": "slot on the move",
    "NOTEMPTY": NOT_EMPTY,
}


def refusal(error: Exception, *, change: bool) -> StoreUnavailableError:
    """Return the error that tells a caller what an error reply to its command means.

    Only what is known to be decided before execution says that nothing happened; an error from the middle of a
    function ("script: ..." in its message) or an unknown one leaves the outcome of a change unknown.
    """
    message = str(error)
    code, _, rest = message.partition(" ")
    within = "script: " in rest
    if code == "ERR" and rest.startswith("Function not found"):
        return StoreUnavailableError("redis", NO_LIBRARY)
    reason = _REFUSALS.get(code)
    if reason is not None and not within:
        return StoreUnavailableError("redis", reason)
    kind = OutcomeUnknownError if change else StoreUnavailableError
    return kind("redis", reason or f"unexpected error {code[:32]}")


def checked(reply: Any) -> Any:
    """Return what was answered for one session; raises `CorruptSessionError` where its key holds something else.

    That is the only error which a reply within the answer of a function, or to a read between two good guards, can be.
    """
    if isinstance(reply, ReplyError):
        if str(reply).startswith(("CORRUPT", "WRONGTYPE")):
            raise CorruptSessionError("a record in Redis is no session")
        raise refusal(reply, change=False)
    return reply


@contextmanager
def understood(*, change: bool) -> Iterator[None]:
    """Turn a failure to read an answer (the body of the `with`) into the error it is: nobody knows what was done."""
    try:
        yield
    except MALFORMED as error:
        raise unexpected(change=change) from error


def unexpected(*, change: bool) -> StoreUnavailableError:
    """The error for an answer that makes no sense: the peer is no Redis with our library, or the stream is torn."""
    kind = OutcomeUnknownError if change else StoreUnavailableError
    return kind("redis", "unexpected answer")


def is_error(reply: Any) -> bool:
    """Whether Redis answered a command with an error."""
    return isinstance(reply, ReplyError)
