"""From settings to a connection and a repository: the one place that knows both."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from session_ops.errors import SettingsError
from session_ops.limits import Limits
from session_ops.stores.connection import Connection
from session_ops.stores.redis import RedisSessionRepository

if TYPE_CHECKING:
    from session_ops.settings import Settings


def connect(settings: Settings) -> Connection:
    """A connection to the Redis of the settings; nothing is sent before its first use."""
    return Connection(
        settings.redis_host,
        settings.redis_port,
        db=settings.redis_db,
        username=settings.redis_username or None,
        password=settings.redis_password or None,
        ssl=_tls(settings) if settings.redis_tls else None,
        deadline=settings.redis_deadline,
        connect_timeout=settings.redis_connect_timeout,
        queue_limit=settings.redis_queue_limit,
    )


def make_repository(settings: Settings, connection: Connection, prefix: str | None = None) -> RedisSessionRepository:
    """The repository of generation `prefix`, else of SESSION_GENERATION_PREFIX."""
    return RedisSessionRepository(
        connection,
        prefix=prefix or settings.session_generation_prefix or None,
        ttl=settings.session_ttl,
        max_lifetime=settings.session_max_lifetime,
        cleanup_interval=settings.session_cleanup_interval,
        partitions=settings.session_partitions,
        limits=Limits(size=settings.session_data_limit),
    )


def _tls(settings: Settings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.redis_tls_ca_file or None)
    except OSError as error:
        raise SettingsError(f"REDIS_TLS_CA_FILE: cannot use {settings.redis_tls_ca_file}: {error}") from error
    if settings.redis_tls_cert_file:
        try:
            context.load_cert_chain(settings.redis_tls_cert_file, settings.redis_tls_key_file)
        except OSError as error:
            raise SettingsError(f"REDIS_TLS_CERT_FILE: cannot use {settings.redis_tls_cert_file}: {error}") from error
    return context
