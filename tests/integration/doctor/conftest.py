"""Fleets in the middle of a migration, on both databases."""

from tests.integration.migration.conftest import application, migration, on_postgresql, on_sqlite

__all__ = ["application", "migration", "on_postgresql", "on_sqlite"]  # fixtures that pytest finds here
