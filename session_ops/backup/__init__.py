"""Backups of Redis: taken from a snapshot, proved by loading it, encrypted, kept on another host, and looked after."""
