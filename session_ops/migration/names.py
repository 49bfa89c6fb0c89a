"""How everything that prepare makes is called, quoted for the database at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import BigInteger, Column, MetaData, String, Table

from session_ops.stores.control_schema import ControlSchema
from session_ops.stores.legacy_columns import Columns
from session_ops.stores.legacy_schema import Schema

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect as Driver

PARTS: Final = Columns.__struct_fields__

CHECK: Final = "session_ops_bucket"
"""The constraint behind which `bucket` becomes NOT NULL without a scan under a lock."""

FUNCTION: Final = "session_ops_guard"

# Triggers fire in the order of their names, and what the application's own triggers do to a row (say, set a column
# updated_at) is not the statement's doing: "_" comes before every letter that is not quoted.
TRIGGERS: Final = tuple(f"_session_ops_{event}" for event in ("insert", "update", "delete", "truncate"))


class Names:
    """The tables of one application."""

    def __init__(self, table: str, columns: Columns, driver: Driver) -> None:
        """`table` and `columns` as the settings give them."""
        self.namespace, _, self.table = table.rpartition(".")
        self.columns = columns
        self.driver = driver
        self.schema = Schema(table, columns)
        self.control = ControlSchema(self.namespace)
        self.prepared = Table(
            "session_prepared",
            MetaData(schema=self.namespace or None),
            Column("kind", String(8), primary_key=True),
            Column("name", String(128), primary_key=True),
            Column("at", BigInteger, nullable=False),
        )
        self.sessions = self.quoted(self.table)

    @property
    def beside(self) -> tuple[Table, ...]:
        """The small tables, in the order in which they are made."""
        return (*self.control.metadata.sorted_tables, self.schema.counters, self.schema.leads)

    def plain(self, name: str) -> str:
        """A name by itself: a column, or an index in CREATE INDEX."""
        return self.driver.identifier_preparer.quote(name)

    def quoted(self, name: str) -> str:
        """The name of a table, an index or a function, with the schema in front where the settings give one."""
        return f"{self.plain(self.namespace)}.{self.plain(name)}" if self.namespace else self.plain(name)

    def column(self, part: str) -> str:
        """What the table calls a part of a session, quoted."""
        return self.plain(getattr(self.columns, part))


def literal(value: str) -> str:
    """A text as it stands in SQL."""
    return "'" + value.replace("'", "''") + "'"
