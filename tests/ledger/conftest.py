"""What the ledger's tests share with the integration tests: services over a real Redis."""

from tests.integration.conftest import make_service, ready_redis

__all__ = ["make_service", "ready_redis"]
