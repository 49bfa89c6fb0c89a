"""Attributes in SQL: every value and every name comes back as it was, and sizes are counted as Redis counts them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from session_ops.errors import SessionTooLargeError
from session_ops.limits import Limits
from session_ops.records import NewSession

if TYPE_CHECKING:
    from session_ops.stores.legacy import LegacySessionRepository
    from tests.contract.legacy_backend import LegacyBackend


@pytest.fixture(params=["postgresql", "sqlite"])
def backend(request: pytest.FixtureRequest) -> LegacyBackend:
    made: LegacyBackend = request.getfixturevalue(request.param)
    return made


@pytest.fixture
def repository(backend: LegacyBackend) -> LegacySessionRepository:
    return backend.repository()


@pytest.mark.parametrize(
    "value",
    [1e15, 1e16, 1e18, 1e19, -1e22, 1.7976931348623157e308, 5e-324, 1e-7, -0.5, 100.0, "1e16", 'say "1e16"', "\\1e16",
     [1e16, {"n": [2e20], "1e16": "1e16"}], 2**53 + 1],
)  # fmt: skip
async def test_numbers_and_what_looks_like_them_come_back_as_they_were(
    repository: LegacySessionRepository, value: Any
) -> None:
    made = await repository.create(NewSession(user_id="ann", data={"value": value, "1e16": value}))
    updated = await repository.update(made.id, changes={"other": value})

    assert repr(updated.data["value"]) == repr(value)
    assert updated.data == {"value": value, "1e16": value, "other": value}


@pytest.mark.parametrize(
    "value", ["x" * 20, "é\n\"\\\t" * 3, [1, [2, {"a b": [True, None]}], ", : "], {"k": "  spaces  "}, 12345678]
)  # fmt: skip
async def test_the_size_of_a_session_is_what_redis_makes_of_it(backend: LegacyBackend, value: Any) -> None:
    size = len("base") + len('"......"') + len("value") + len(msgspec.json.encode(value))
    made = await backend.repository().create(NewSession(user_id="ann", data={"base": "......"}))

    with pytest.raises(SessionTooLargeError):
        await backend.repository(limits=Limits(size=size - 1)).update(made.id, changes={"value": value})
    await backend.repository(limits=Limits(size=size)).update(made.id, changes={"value": value})


async def test_a_count_of_attributes_is_kept_beyond_what_their_text_tells(backend: LegacyBackend) -> None:
    repository = backend.repository(limits=Limits(attributes=3))
    made = await repository.create(NewSession(user_id="ann", data={"a": 1, "b": 1, "c": "x" * 100}))

    with pytest.raises(SessionTooLargeError):
        await repository.change(made.id, changes={"d": 1})
    await repository.change(made.id, changes={"d": 1}, remove=["a"])


@pytest.mark.parametrize("name", ["a'b", "a.b", "$", "$.a", "[0]", "a%sb", ":x", "%(id)s", "?", "né", "#"])
async def test_an_attribute_may_have_any_printable_name(repository: LegacySessionRepository, name: str) -> None:
    made = await repository.create(NewSession(user_id="ann", data={name: 1, "kept": 1}))

    assert (await repository.update(made.id, changes={name: None})).data == {name: None, "kept": 1}
    assert (await repository.update(made.id, changes={}, remove=[name])).data == {"kept": 1}
