"""Statements as the driver takes them: rendered once, because rendering costs more than running most of them."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, String, bindparam, literal_column
from sqlalchemy.dialects.postgresql import insert as insert_postgresql
from sqlalchemy.dialects.sqlite import insert as insert_sqlite

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Compiled
    from sqlalchemy.engine import Dialect as Driver

    from session_ops.stores.legacy_dialects import Dialect


class Statement:
    """A statement as the driver takes it, made when it is first used."""

    def __init__(self, make: Callable[[], Any], driver: Driver) -> None:
        self._make = make
        self._driver = driver

    @cached_property
    def _compiled(self) -> Compiled:
        compiled: Compiled = self._make().compile(dialect=self._driver)
        return compiled

    @cached_property
    def sql(self) -> str:
        """The text."""
        return str(self._compiled)

    @cached_property
    def _defaults(self) -> dict[str, Any]:
        return dict(self._compiled.params)

    @cached_property
    def _order(self) -> list[str] | None:
        order: list[str] | None = getattr(self._compiled, "positiontup", None)
        return order

    def parameters(self, given: Mapping[str, Any]) -> Any:
        """The parameters as the driver takes them."""
        values = {**self._defaults, **given}
        return values if self._order is None else tuple(values[name] for name in self._order)


def text(name: str) -> ColumnElement[str]:
    """The text parameter `name`."""
    return bindparam(name, type_=String)


def number(name: str) -> ColumnElement[int]:
    """The 64-bit parameter `name`."""
    return bindparam(name, type_=BigInteger)


def digits(value: int) -> ColumnElement[int]:
    """A number that is the same in every call: in the text, where the planner and partial indexes see it."""
    return literal_column(str(value), BigInteger)


def into(dialect: Dialect, table: Any) -> Any:
    """An INSERT into `table` that knows what to do about conflicts."""
    return insert_postgresql(table) if dialect.name == "postgresql" else insert_sqlite(table)
