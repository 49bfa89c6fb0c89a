"""A session whose data nobody has asked for is a session like any other."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_ops.deferred import Deferred
from session_ops.errors import CorruptSessionError
from session_ops.limits import encode_attributes
from session_ops.records import Session

DATA: dict[str, Any] = {"100%": "%s", "name": "Zoë", "cart": [{"n": 1}, {"n": 2.5}], "none": None}
BROKEN = (
    [b"a", b"{"],
    [b"a", b'"\xff"'],
    [b'a":1,"b', b""],
    [b"a", b"1", b"b"],
    [b"a", b"[" * 100_000],
    [b"\xff", b"1"],
)


def session(data: Any) -> Session:
    return Session(
        id="s",
        user_id="ann",
        agent_id=None,
        data=data,
        created_at=1,
        updated_at=2,
        expires_at=3,
        revision="0" * 16,
        version=4,
    )


def stored(*fields: bytes) -> Session:
    return session(Deferred([b"", b"bookkeeping", *fields]))


def whole() -> Session:
    return stored(*encode_attributes(DATA, None)[0])


def test_it_is_compared_shown_and_copied_with_its_data() -> None:
    plain = session(DATA)
    assert whole() == plain
    assert plain == whole()
    assert whole() == whole()
    assert whole() != session({})
    assert whole() != msgspec.structs.replace(plain, version=5)
    assert whole() != "a session"
    assert repr(whole()) == repr(plain)
    for made in (
        copy.copy(whole()),
        copy.deepcopy(whole()),
        pickle.loads(pickle.dumps(whole())),  # noqa: S301 - our own
        msgspec.structs.replace(whole(), version=4),
    ):
        assert made == plain
        assert type(made) is Session


def test_its_data_is_one_dict_however_often_it_is_asked_for() -> None:
    read = whole()
    copied = copy.copy(read)
    assert type(read.data) is dict
    read.data["more"] = 1
    assert read.data == {**DATA, "more": 1}
    assert copied.data is read.data
    assert copy.deepcopy(read).data is not read.data


def test_it_stays_as_it_is() -> None:
    for read in (whole(), session(DATA)):
        for name in ("data", "id"):
            with pytest.raises(AttributeError, match="immutable"):
                setattr(read, name, {})
        with pytest.raises(TypeError, match="unhashable"):
            hash(read)


def test_json_is_never_without_its_data() -> None:
    read = whole()
    with pytest.raises(TypeError, match="Deferred"):
        msgspec.json.encode(read)
    assert json.loads(msgspec.json.encode(read.shown())) == DATA
    assert json.dumps(read.data) == json.dumps(DATA)
    assert msgspec.json.decode(msgspec.json.encode(read), type=Session) == read
    assert read.shown() is read.data


@pytest.mark.parametrize("fields", BROKEN)
def test_what_is_no_json_is_a_corrupt_session(fields: list[bytes]) -> None:
    read = stored(*fields)
    with pytest.raises(CorruptSessionError):
        read.shown()
    for _ in range(2):
        with pytest.raises(CorruptSessionError):
            read.data  # noqa: B018
    assert "data=<no JSON>" in repr(read)


@given(st.dictionaries(st.text("ab%", min_size=1), st.binary() | st.sampled_from([b"1", b'"\\ud800"', b"1e5", b"1,2"])))
def test_what_is_shown_is_what_would_be_decoded(values: dict[str, bytes]) -> None:
    fields = [part for name, value in values.items() for part in (name.encode(), value)]
    try:
        data = stored(*fields).data
    except CorruptSessionError:
        with pytest.raises(CorruptSessionError):
            stored(*fields).shown()
    else:
        assert msgspec.json.decode(msgspec.json.encode(stored(*fields).shown())) == data
