"""Repositories of sessions: the contract and its implementations."""
