"""Validation at the edge: what passes, what does not, and that both are found out fast."""

from __future__ import annotations

import json
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_ops.errors import InvalidSessionError, SessionTooLargeError
from session_ops.limits import (
    Limits,
    check_id,
    check_owner,
    check_page,
    check_ttl,
    encode_attributes,
    encode_text,
    is_id,
    is_prefix,
)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda children: (
        st.lists(children, max_size=4)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), children, max_size=4
        )
    ),
    max_leaves=12,
)


@given(value=JSON)
def test_every_json_value_is_encoded_as_it_is(value: Any) -> None:
    [name, encoded], size = encode_attributes({"a": value}, Limits())

    assert name == b"a"
    assert msgspec.json.decode(encoded) == value
    assert size == 1 + len(encoded)


@pytest.mark.parametrize("session_id", ["a", "A-b_c~d,e=f.g", "0" * 128, "-", "_", "s3ss10n..x"])
def test_ids_that_frameworks_draw_pass(session_id: str) -> None:
    check_id(session_id)


@pytest.mark.parametrize(
    "session_id",
    ["", ".", "..", ".a", "a/b", "a:b", "a b", "a\n", "\n", "a\0", "é", "*?[", "{0}", "0" * 129, "%00", None, 1],
)
def test_hostile_ids_do_not(session_id: Any) -> None:
    assert not is_id(session_id)
    with pytest.raises(InvalidSessionError):
        check_id(session_id)


@pytest.mark.parametrize("owner", ["", "x" * 257, "a\nb", "\0", "\x7f", "\u2028", "\ud800", None, 7])
def test_an_owner_that_cannot_be_part_of_a_key_is_refused(owner: Any) -> None:
    with pytest.raises(InvalidSessionError):
        check_owner("user", owner)


@pytest.mark.parametrize("ttl", [0, -1, 1.5, True, "60", 10**10])
def test_a_ttl_is_a_whole_number_of_seconds(ttl: Any) -> None:
    with pytest.raises(InvalidSessionError):
        check_ttl(ttl)
    check_ttl(None)
    check_ttl(1)


def test_a_page_and_a_prefix_have_bounds() -> None:
    check_page(1)
    check_page(1_000)
    assert is_prefix("1-a1b2")
    assert not any(is_prefix(prefix) for prefix in ("", "a:b", "{", "a b", "x" * 65, "a\n"))


@pytest.mark.parametrize("levels", [32, 33])
def test_depth_is_counted_in_arrays_and_objects(levels: int) -> None:
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}

    if levels == 32:
        encode_attributes({"a": value}, Limits())
    else:
        with pytest.raises(InvalidSessionError, match="32"):
            encode_attributes({"a": value}, Limits())


def test_a_structure_without_end_is_refused_at_once() -> None:
    loop: list[Any] = []
    loop.extend([loop] * 100)
    started = time.monotonic()

    with pytest.raises(InvalidSessionError):
        encode_attributes({"a": loop}, Limits())

    assert time.monotonic() - started < 1


def test_size_counts_bytes_of_names_and_values() -> None:
    exact = Limits(size=10)
    assert encode_attributes({"é": "éé"}, exact)[1] == 8
    assert encode_attributes({"ab": "éé12"}, exact)[1] == 10
    with pytest.raises(SessionTooLargeError):
        encode_attributes({"ab": "éé123"}, exact)


def test_no_message_repeats_a_value() -> None:
    with pytest.raises(InvalidSessionError) as refused:
        encode_attributes({"token": ["a secret", "\0"]}, Limits())

    assert "a secret" not in str(refused.value)


def outcome(data: dict[str, Any], encode: Any) -> Any:
    try:
        return encode(data)
    except InvalidSessionError as error:
        return str(error)


TEXT = st.text(max_size=8) | st.sampled_from(["\0", "a\0b", "\\u0000", "9" * 25])
INTEGERS = st.integers() | st.sampled_from([2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64])


@given(
    st.dictionaries(
        TEXT,
        st.recursive(
            st.none() | st.booleans() | INTEGERS | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
            max_leaves=6,
        ),
        max_size=4,
    )
)
def test_what_a_text_holds_is_judged_and_encoded_as_anything_else(data: dict[str, Any]) -> None:
    for ascii_only in (True, False):
        text = json.dumps(data, ensure_ascii=ascii_only, indent=1).encode(errors="surrogatepass")
        parsed = json.loads(text)
        assert outcome(text, encode_text) == outcome(parsed, lambda each: encode_attributes(each, None))


def test_what_is_nested_too_deeply_is_refused_in_a_text_too() -> None:
    with pytest.raises((InvalidSessionError, RecursionError)):
        encode_text(b'{"a":' + b"[" * 1_001 + b"]" * 1_001 + b"}")
