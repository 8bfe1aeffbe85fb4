"""The settings of the connections to Redis and Qdrant, and where all settings come from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from memory_worker.settings.environment import texts


class _Environment(EnvSettingsSource):
    """Reads the environment: upper-case names, stripped values. An empty value counts as unset."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the value of a field, its key, and whether it is complex."""
        _, key, is_complex = super().get_field_value(field, field_name)
        name = field_name.upper()
        return texts(os.environ, [name]).get(name), key, is_complex


class ServerSettings(BaseSettings):
    """The addresses of Redis and Qdrant, and how to reach them. They are read from the environment."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,  # the input may be a secret
    )

    @classmethod
    def settings_customise_sources(  # type: ignore[override]  # the other sources are not used
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, **_: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use the arguments first, then the environment, and no files."""
        return init_settings, _Environment(settings_cls)

    redis_url: SecretStr | None = Field(
        None,
        description="Address of Redis: `redis://`, `rediss://` (TLS) or `unix://`. With Sentinel or Redis Cluster: "
        "`redis+sentinel://` or `redis+cluster://`. Or a file with it: `REDIS_URL_FILE`. If it is unset, the worker "
        "starts an embedded Valkey. An empty value is an error.",
    )
    redis_username: SecretStr | None = Field(
        None, description="Redis user. It overrides the user in the URL. Or a file: `REDIS_USERNAME_FILE`."
    )
    redis_password: SecretStr | None = Field(
        None,
        description="Redis password, not percent-encoded. It overrides the password in the URL. "
        "Or a file: `REDIS_PASSWORD_FILE`.",
    )
    redis_tls_ca_file: Path | None = Field(
        None,
        description="PEM file of the authority that signed Redis's certificate. "
        "If it is unset, those of the system are used (`SSL_CERT_FILE`).",
    )
    redis_tls_cert_file: Path | None = Field(
        None, description="PEM file of the client certificate for Redis. It needs `REDIS_TLS_KEY_FILE`."
    )
    redis_tls_key_file: Path | None = Field(None, description="PEM file of the key of that certificate.")
    redis_timeout_s: float = Field(5.0, gt=0, le=60, description="Time to wait for a reply from Redis, in seconds.")
    redis_patience_s: float = Field(
        20.0,
        gt=0,
        le=3600,
        description="Time that a worker goes on without a Redis that takes writes, in seconds. Then it exits with 1.",
    )
    redis_allow_eviction: bool = Field(
        False,
        description="Start although Redis has a `maxmemory` and a `maxmemory-policy` other than `noeviction`. "
        "Such a Redis loses jobs when it is full.",
    )

    qdrant_url: str | None = Field(
        None,
        description="gRPC address of Qdrant: `http://host:6334`, or `https://` for TLS. "
        "If it is unset, the worker starts an embedded engine. An empty value is an error.",
    )
    qdrant_api_key: SecretStr | None = Field(
        None, description="API key of Qdrant. Or a file with it: `QDRANT_API_KEY_FILE`."
    )
    qdrant_tls_ca_file: Path | None = Field(
        None,
        description="PEM file of the authority that signed Qdrant's certificate. "
        "If it is unset, those of gRPC are used (`GRPC_DEFAULT_SSL_ROOTS_FILE_PATH`).",
    )
    qdrant_timeout_s: float = Field(
        5.0, gt=0, le=300, description="Time that one request to Qdrant may take, in seconds. Keep it below the lease."
    )
