"""What Redis' refusals mean."""

from __future__ import annotations

import pytest

from session_ops.errors import OutcomeUnknownError, StoreUnavailableError
from session_ops.stores.library import LIBRARY
from session_ops.stores.replies import ReplyError, refusal

NOTHING_HAPPENED = {
    "READONLY Can not run script with write flag on readonly replica.": "not the primary",
    "WRONGSERVER not a primary": "not the primary",
    "LOST no generation key": "generation lost",
    "OOM allow-oom flag is not set on the function, can not run it when used memory > 'maxmemory'": "out of memory",
    "NOREPLICAS Not enough good replicas to write.": "too few replicas",
    "MISCONF Redis is configured to save RDB snapshots, but cannot persist.": "cannot persist",
    "LOADING Redis is loading the dataset in memory": "loading",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.": "replica without its primary",
    "NOPERM User x has no permissions to run the 'fcall' command": "not permitted",
    "NOAUTH Authentication required.": "password required",
    "WRONGPASS invalid username-password pair or user is disabled.": "wrong password",
    "ERR Function not found": f"no functions library {LIBRARY}",
    "EXECABORT Transaction discarded because of previous errors.": "transaction refused",
}


@pytest.mark.parametrize("message", NOTHING_HAPPENED)
def test_what_is_refused_before_it_begins_has_not_happened(message: str) -> None:
    for change in (True, False):
        error = refusal(ReplyError(message), change=change)

        assert type(error) is StoreUnavailableError
        assert (error.store, error.reason) == ("redis", NOTHING_HAPPENED[message])


@pytest.mark.parametrize(
    "message",
    [
        "OOM command not allowed when used memory > 'maxmemory'. script: session_v1_update, on @user_function:200.",
        "NOPERM this user has no permissions script: session_v1_update, on @user_function:200.",
        "ERR user_function:12: attempt to index a nil value script: session_v1_update, on @user_function:12.",
        "WEIRD something new",
        "",
    ],
)
def test_what_may_have_begun_is_unknown_for_a_change(message: str) -> None:
    assert type(refusal(ReplyError(message), change=True)) is OutcomeUnknownError
    assert type(refusal(ReplyError(message), change=False)) is StoreUnavailableError
