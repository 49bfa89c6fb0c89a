"""Two spellings of one setting are one setting."""

from __future__ import annotations

import pytest
from ansible.module_utils.redis_values import rendered, same, shown


@pytest.mark.parametrize(
    ("name", "wanted", "current"),
    [
        ("maxmemory", "512mb", "536870912"),
        ("maxmemory", "512MB", "536870912"),
        ("maxmemory", "1g", "1000000000"),
        ("maxmemory", 1024, "1024"),
        ("appendonly", True, "yes"),
        ("appendonly", "yes", "yes"),
        ("appendonly", "True", "yes"),
        ("save", "", ""),
        ("save", '""', ""),
        ("save", ["3600 1", "300 100"], "3600 1 300 100"),
        ("save", "3600  1   300 100", "3600 1 300 100"),
        ("bind", ["127.0.0.1", "10.0.0.5"], "127.0.0.1 10.0.0.5"),
        ("notify-keyspace-events", "EKg", "gKE"),
        ("notify-keyspace-events", "KEA", "AKE"),
        (
            "client-output-buffer-limit",
            "replica 256mb 64mb 60",
            "normal 0 0 0 slave 268435456 67108864 60 pubsub 1 2 3",
        ),
    ],
)
def test_the_same_setting_in_another_spelling_is_no_change(name: str, wanted: object, current: str) -> None:
    assert same(name, wanted, current)


@pytest.mark.parametrize(
    ("name", "wanted", "current"),
    [
        ("maxmemory", "512mb", "512000000"),
        ("appendonly", False, "yes"),
        ("save", "", "3600 1"),
        ("bind", ["10.0.0.5", "127.0.0.1"], "127.0.0.1 10.0.0.5"),
        ("dir", "/var/lib/Redis", "/var/lib/redis"),
        ("notify-keyspace-events", "KE", "KEg"),
        (
            "client-output-buffer-limit",
            "replica 256mb 64mb 61",
            "normal 0 0 0 slave 268435456 67108864 60 pubsub 1 2 3",
        ),
    ],
)
def test_another_meaning_is_a_change(name: str, wanted: object, current: str) -> None:
    assert not same(name, wanted, current)


def test_values_are_rendered_as_config_set_takes_them() -> None:
    assert [rendered(value) for value in (True, 7, "a b", ["x", 1], '"q"')] == ["yes", "7", "a b", "x 1", "q"]


def test_a_password_among_the_settings_is_never_shown() -> None:
    assert shown("masterauth", "hunter2") == "(hidden)"
    assert shown("masterauth", "") == ""
