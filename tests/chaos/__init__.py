"""Faults of a fleet, and what must hold while they last."""
