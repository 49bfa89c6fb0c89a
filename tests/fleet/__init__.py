"""Tests that spoil the lab on purpose. They need its hosts rolled out, and leave them as they found them."""
