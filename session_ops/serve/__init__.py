"""`session-ops serve`: the socket, the processes behind it, and their life under systemd."""
