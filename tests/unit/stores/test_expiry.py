"""The rule for a session's end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from session_ops.stores.expiry import slide

times = st.integers(0, 4_000_000_000_000)
ttls = st.integers(1, 315_360_000)


@given(created_at=times, age=st.integers(0, 10**12), ttl=ttls)
def test_a_session_lives_for_the_ttl_and_at_most_a_step_more(created_at: int, age: int, ttl: int) -> None:
    now = created_at + age

    expires = slide(now, created_at, ttl, 0)

    assert now + ttl * 1000 <= expires < now + ttl * 1000 + ttl * 50
    assert (expires - created_at) % (ttl * 50) == 0


@given(created_at=times, ttl=ttls)
def test_a_new_session_lives_for_exactly_the_ttl(created_at: int, ttl: int) -> None:
    assert slide(created_at, created_at, ttl, 0) == created_at + ttl * 1000


@given(created_at=times, age=st.integers(0, 10**12), ttl=ttls, lifetime=ttls)
def test_no_session_lives_beyond_the_maximum_lifetime(created_at: int, age: int, ttl: int, lifetime: int) -> None:
    assert slide(created_at + age, created_at, ttl, lifetime) <= created_at + lifetime * 1000
