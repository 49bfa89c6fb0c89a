"""Moving an application's sessions: what `session-ops migrate` does, as library calls."""
