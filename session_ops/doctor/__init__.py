"""`session-ops doctor`: looks at everything that a host can see, changes nothing, and says what to do."""
