"""A check of linearizability, independent of what it checks: calls are recorded, and an order is looked for that
explains every answer by a register with merges. It knows nothing of stores, of flags or of the protocol between them.

    history = History()
    repository = Recorded(repository, history, by="app1")
    ...
    assert_linearizable(history)
"""

from tests.linearizability.check import assert_linearizable, check, check_all
from tests.linearizability.history import Call, History, Operation
from tests.linearizability.recorded import Recorded, noted_errors
from tests.linearizability.register import Rules
from tests.linearizability.search import UndecidedError
from tests.linearizability.violation import Violation

__all__ = [
    "Call",
    "History",
    "Operation",
    "Recorded",
    "Rules",
    "UndecidedError",
    "Violation",
    "assert_linearizable",
    "check",
    "check_all",
    "noted_errors",
]
