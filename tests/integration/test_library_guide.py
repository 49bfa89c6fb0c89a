"""docs/library.md is run as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from session_ops.stores.connection import Connection
    from session_ops.stores.redis import RedisSessionRepository

GUIDE = Path(__file__).parents[2] / "docs" / "library.md"


async def test_the_program_of_the_guide_runs(administrator: Connection, connect: Callable[..., Connection]) -> None:
    program = re.search(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert program is not None
    names: dict[str, Any] = {}
    exec(compile(program[1], str(GUIDE), "exec"), names)  # noqa: S102 - our own guide
    repository: RedisSessionRepository = names["RedisSessionRepository"](connect(), prefix="1-guide")
    await repository.open_generation()
    assert await names["demo"](connect(), "1-guide") == [0, 1, 2, 3, 4]
