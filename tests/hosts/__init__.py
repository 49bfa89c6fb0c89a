"""Host verification: what the inventory promises is asked of every host. One suite for CI and production."""
