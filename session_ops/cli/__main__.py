"""`python -m session_ops.cli`."""

from session_ops.cli import main

main(prog_name="session-ops")
