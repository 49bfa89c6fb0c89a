"""The legacy stores of the contract suite, for tests of their own."""

from __future__ import annotations

from tests.contract.legacy_backend import postgresql, postgresql_url, sqlite, sqlite_url

__all__ = ["postgresql", "postgresql_url", "sqlite", "sqlite_url"]  # fixtures that pytest finds here
