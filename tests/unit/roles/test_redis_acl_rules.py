"""Rules as people write them and as Redis prints them are compared in one form."""

from __future__ import annotations

import pytest
import yaml
from ansible.module_utils.redis_acl_rules import described, digest, line, parse, parse_lines

from session_ops.stores.acl import SERVICE_ACL

from .conftest import ROOT

SHA = digest("secret")


@pytest.mark.parametrize(
    ("rules", "printed"),
    [
        (["on", ">secret", "~*", "&*", "+@all"], f"on sanitize-payload #{SHA} ~* &* +@all"),
        (["on", "allkeys", "allchannels", "allcommands", ">secret"], f"on #{SHA} ~* &* +@all"),
        (["off", "resetpass", "-@all"], "off resetchannels -@all"),
        (["on", "~b:*", "~a:*", "-@all", "+set", "+get"], "on ~a:* ~b:* resetchannels -@all +get +set"),
        (["on", "%RW~a:*", "%R~b:*", "+get"], "on ~a:* %R~b:* resetchannels -@all +get"),
        (["on", "~a:*", "+get", "(~b:* +set)"], "on ~a:* resetchannels -@all +get (~b:* +set)"),
        (["on", "+GET", "+get", "+client|id"], "on resetchannels -@all +client|id +get"),
    ],
)
def test_rules_mean_what_redis_prints(rules: list[str], printed: str) -> None:
    assert parse("a", rules) == parse_lines([f"user a {printed}"])["a"]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (["on"], ["off"]),
        (["on", ">a"], ["on", ">b"]),
        (["on", "~a*"], ["on", "%R~a*"]),
        (["on", "+get"], ["on", "+get", "+set"]),
        (["on", "+@all", "-flushall"], ["on", "-flushall", "+@all"]),
        (["on", "nopass"], ["on"]),
    ],
)
def test_different_rights_are_different_users(left: list[str], right: list[str]) -> None:
    assert parse("a", left) != parse("a", right)


def test_a_line_can_be_read_back_and_holds_no_plain_password() -> None:
    user = parse("a", ["on", ">secret", "~a:*", "&c", "+@all", "-flushall", "+ping", "(~b:* +get)"])
    assert "secret" not in line(user)
    assert parse_lines([line(user)]) == {"a": user}


def test_a_description_for_people_shows_no_digest() -> None:
    assert SHA not in described(parse("a", ["on", ">secret"]))


def test_the_roles_service_user_has_exactly_what_the_store_needs() -> None:
    defaults = yaml.safe_load((ROOT / "roles/redis/defaults/main.yml").read_text())
    assert parse("service", defaults["redis_service_acl"]) == parse("service", SERVICE_ACL.split())
