"""`session-ops migrate` on real databases."""
