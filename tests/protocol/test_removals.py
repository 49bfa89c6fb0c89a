"""What `make mutation` takes away is still there to be taken: it takes minutes, and does not run in CI."""

from __future__ import annotations

import pytest

from tests.protocol.implementation.removals import Removal
from tests.protocol.mutation import REMOVALS, ROOT


@pytest.mark.parametrize("removal", REMOVALS, ids=lambda removal: removal.guard)
def test_the_text_of_a_guard_is_found(removal: Removal) -> None:
    text = (ROOT / "session_ops" / removal.file).read_text()
    assert text.count(removal.old) == removal.times
    assert removal.old != removal.new
