"""The contract suite: what every `SessionRepository` promises, run over each implementation."""
