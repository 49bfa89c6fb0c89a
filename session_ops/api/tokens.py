"""Who may call: tokens, kept as SHA-256 and compared in constant time; several are valid at once, for rotation."""

from __future__ import annotations

import hashlib
import hmac
from typing import Literal

import msgspec

from session_ops.errors import SettingsError

Scope = Literal["read", "write", "admin"]

_TOKEN_LIMIT = 512


class Grant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of SESSION_TOKENS: a caller, what it may do, and the SHA-256 of its token in hex."""

    caller: str
    scopes: list[Scope]
    sha256: str


class Tokens:
    """The valid tokens. A random token needs no slow hash: there is nothing to guess."""

    def __init__(self, grants: list[Grant]) -> None:
        """Raises `SettingsError` for a digest that is none."""
        self._grants: list[tuple[bytes, str, frozenset[str]]] = []
        for grant in grants:
            try:
                digest = bytes.fromhex(grant.sha256)
            except ValueError:
                digest = b""
            if len(digest) != hashlib.sha256().digest_size:
                raise SettingsError(f"SESSION_TOKENS: sha256 of caller {grant.caller!r} must be 64 hex digits")
            self._grants.append((digest, grant.caller, frozenset(grant.scopes)))

    @classmethod
    def from_setting(cls, text: str) -> Tokens:
        """Read SESSION_TOKENS. Raises `SettingsError`, never repeating what stands in it."""
        if not text:
            return cls([])
        try:
            return cls(msgspec.json.decode(text, type=list[Grant]))
        except msgspec.ValidationError as error:
            raise SettingsError(f"SESSION_TOKENS: {error}") from None
        except msgspec.DecodeError:
            raise SettingsError("SESSION_TOKENS: must be a JSON list of {caller, scopes, sha256}") from None

    def __len__(self) -> int:
        return len(self._grants)

    def scopes_of(self, authorization: str | None) -> frozenset[str] | None:
        """The scopes of an Authorization header's token; None when it is missing, malformed or unknown.

        Every known digest is compared whatever the earlier ones said, so time tells nothing about them.
        """
        if authorization is None or len(authorization) > _TOKEN_LIMIT:
            return None
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            return None
        given = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        found: frozenset[str] | None = None
        for digest, _caller, scopes in self._grants:
            if hmac.compare_digest(digest, given):
                found = scopes
        return found
