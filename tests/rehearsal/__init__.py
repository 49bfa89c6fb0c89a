"""A whole migration by the playbooks, there and back, while callers go on: `python -m tests.rehearsal`."""
