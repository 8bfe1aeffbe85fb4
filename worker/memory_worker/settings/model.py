"""All settings, from the environment, in one class. Each says its unit, its default and its special values."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, get_args

import pydantic
from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from memory_worker.contract import Limits
from memory_worker.contract.errors import ConfigurationError, InvalidJob
from memory_worker.contract.kinds import MEMORY, namespace_of
from memory_worker.settings.environment import refuse_empty_addresses, secrets_from_files, texts
from memory_worker.settings.variable_names import Unknown, foreign, misspelt

Role = Literal["ingest", "search", "all"]
Quantization = Literal["none", "int8"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]

LEASE_MARGIN_S = 2.0
"""What a lease must outlive a request to Qdrant by: time to commit, and for the reply to be late."""

MOST_PARTITIONS = 1024


class _Environment(EnvSettingsSource):
    """The environment: names in upper case, values without blanks and line ends; what is empty is not set."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the value of a field, its key, and whether it is complex, as pydantic-settings asks for it."""
        _, key, is_complex = super().get_field_value(field, field_name)
        name = field_name.upper()
        return texts(os.environ, [name]).get(name), key, is_complex


class Settings(BaseSettings):
    """The settings of a worker. Raises `ConfigurationError` from `load_settings` for what cannot work."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,  # it may be a secret
    )

    @classmethod
    def settings_customise_sources(  # type: ignore[override]  # the other sources are not used
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, **_: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read what is given in the code, then the environment, and no files."""
        return init_settings, _Environment(settings_cls)

    redis_url: SecretStr | None = Field(
        None,
        description="`redis://`, `rediss://` (TLS) or `unix://`. Or a file with it: `REDIS_URL_FILE`. "
        "Unset: an embedded Valkey is started; empty is an error.",
    )
    redis_username: SecretStr | None = Field(
        None, description="User of Redis, as it is; overrides that of the URL. Or a file: `REDIS_USERNAME_FILE`."
    )
    redis_password: SecretStr | None = Field(
        None,
        description="Password of Redis, as it is, not percent-encoded; overrides that of the URL. "
        "Or a file: `REDIS_PASSWORD_FILE`.",
    )
    redis_tls_ca_file: Path | None = Field(
        None,
        description="PEM file with the authority that signed Redis's certificate. "
        "Unset: the system's (`SSL_CERT_FILE`).",
    )
    redis_tls_cert_file: Path | None = Field(
        None, description="PEM file with a certificate that proves to Redis who we are; needs `REDIS_TLS_KEY_FILE`."
    )
    redis_tls_key_file: Path | None = Field(None, description="PEM file with the key of that certificate.")
    redis_timeout_s: float = Field(5.0, gt=0, le=60, description="Seconds to wait for a reply of Redis.")

    redis_patience_s: float = Field(
        20.0, gt=0, le=3600, description="Seconds that Redis may be away, hang or refuse before a worker ends."
    )
    redis_allow_eviction: bool = Field(
        False,
        description="Start on a Redis that has a `maxmemory` and another `maxmemory-policy` than `noeviction`. "
        "It loses jobs when it is full.",
    )

    qdrant_url: str | None = Field(
        None,
        description="gRPC address: `http://host:6334`, `https://` for TLS. "
        "Unset: an embedded engine is started; empty is an error.",
    )
    qdrant_api_key: SecretStr | None = Field(
        None, description="API key of Qdrant. Or a file with it: `QDRANT_API_KEY_FILE`."
    )
    qdrant_tls_ca_file: Path | None = Field(
        None,
        description="PEM file with the authority that signed Qdrant's certificate. "
        "Unset: those of gRPC (`GRPC_DEFAULT_SSL_ROOTS_FILE_PATH`).",
    )
    qdrant_timeout_s: float = Field(
        5.0, gt=0, le=300, description="Seconds that one request to Qdrant may take; must be below the lease."
    )
    qdrant_memories_collection: str = Field(
        "user_memories",
        pattern=r"^[A-Za-z0-9_-]{1,120}$",
        description="Collection of memories; namespaces add `_name`.",
    )
    qdrant_documents_collection: str = Field(
        "user_documents", pattern=r"^[A-Za-z0-9_-]{1,120}$", description="Collection of document chunks."
    )
    qdrant_namespaces: str = Field(
        "feedback_false_positive,feedback_positive",
        description="Namespaces of memories that belong to this deployment although no worker has written to them yet, "
        "separated by commas: a purge reaches them if they exist. `,`: none. "
        "Other collections whose names begin alike are left alone until a job names them.",
    )
    qdrant_vector_dimension: int = Field(1024, ge=1, le=65_536, description="Dimension of all vectors.")
    qdrant_quantization: Quantization = Field(
        "none",
        description="`int8`: scalar quantization of new collections (quantile 0.99, always in RAM), and searches that "
        "make up for it. Saves memory together with `QDRANT_ON_DISK=true`.",
    )
    qdrant_hnsw_m: int = Field(
        16,
        ge=0,
        le=512,
        description="HNSW: edges a node, for new collections. 0: no graph over all users' points; a search that "
        "names no user, which the worker never does, then misses most.",
    )
    qdrant_hnsw_payload_m: int | None = Field(
        None,
        ge=0,
        le=512,
        description="HNSW: edges a node among one user's points, for new collections; with `QDRANT_HNSW_M=0` "
        "each large user gets a graph of their own, and nothing else is built (Qdrant 1.17 or newer). "
        "Unset: as `QDRANT_HNSW_M`.",
    )
    qdrant_hnsw_ef_construct: int = Field(
        100, ge=4, le=10_000, description="HNSW: neighbours considered while building, for new collections."
    )
    qdrant_tenant_index: bool = Field(
        False,
        description="Write `_tenant`, the user as a keyword, into each point, and index it as Qdrant's tenant: "
        "a user's points are stored side by side.",
    )
    qdrant_on_disk: bool = Field(False, description="Keep vectors and HNSW graph of new collections on disk.")
    qdrant_shard_number: int = Field(1, ge=1, le=1024, description="Shards of new collections (Qdrant cluster).")
    qdrant_replication_factor: int = Field(1, ge=1, le=64, description="Replicas of each shard (Qdrant cluster).")
    qdrant_write_consistency_factor: int = Field(
        1, ge=1, le=64, description="Replicas that must confirm a write (Qdrant cluster)."
    )

    worker_role: Role = Field("all", description="What this process does: `ingest`, `search` or `all`.")
    worker_concurrency: int = Field(
        4,
        ge=1,
        le=256,
        description="Batches on their way at once in one process: of one partition in which much waits, "
        "or of many in which little does.",
    )
    worker_poll_ms: int = Field(
        50, ge=1, le=1000, description="Milliseconds between looks for partitions that are due but rang no bell."
    )
    worker_grace_s: float = Field(
        10.0, gt=0, le=600, description="Seconds that work in flight may take to finish after SIGTERM."
    )
    search_concurrency: int = Field(32, ge=1, le=1024, description="Read jobs answered at once by one process.")
    search_max_waiting: int = Field(
        10_000, ge=0, description="Read jobs that may wait in all; more are refused at once. 0: no limit."
    )
    read_max_bytes: int = Field(
        16_777_216,
        ge=65_536,
        le=536_870_912,
        description="Bytes of the answer to one read, at most; a larger one is an error `too_large`.",
    )
    read_budget_bytes: int = Field(
        50_331_648,
        ge=131_072,
        le=17_179_869_184,
        description="Bytes of answers in hand at once in one process; large ones wait for room. Each byte takes about "
        "six of memory. At least twice `READ_MAX_BYTES`.",
    )
    replies_max_bytes: int = Field(
        67_108_864,
        ge=65_536,
        description="Bytes of large replies that may wait in Redis to be taken, in all; further ones become an error "
        "`unavailable`. At least `READ_MAX_BYTES`.",
    )
    search_poll_ms: int = Field(
        50, ge=1, le=1000, description="Milliseconds between looks for read jobs that rang no bell: those of arq's own."
    )

    batch_max_jobs: int = Field(256, ge=1, le=10_000, description="Jobs in one batch to Qdrant, at most.")
    batch_max_bytes: int = Field(
        4_194_304, ge=1024, le=268_435_456, description="Bytes of jobs in one batch, at most; one job always fits."
    )
    drain_slice_s: float = Field(
        2.0, gt=0, le=60, description="Seconds after which a drain gives way to other partitions."
    )
    lease_ttl_s: float = Field(8.0, gt=0, le=600, description="Seconds that a killed worker's partitions stay locked.")
    rescue_interval_s: float = Field(
        1.0, gt=0, le=60, description="Seconds between looks for partitions that nobody drains."
    )
    retry_base_s: float = Field(0.1, gt=0, le=60, description="First delay after an outage, in seconds; doubles.")
    retry_max_s: float = Field(4.0, gt=0, le=300, description="Longest delay during an outage, in seconds.")

    queue_prefix: str = Field("mw", pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="Prefix of all keys in Redis.")
    queue_partitions: int = Field(
        32,
        ge=1,
        le=MOST_PARTITIONS,
        description="Partitions of the queue; fixed in Redis at first use. `memory-worker partitions` changes it.",
    )
    queue_max_jobs: int = Field(1_000_000, ge=0, description="Jobs that may wait in all; 0: no limit.")
    queue_max_bytes: int = Field(4_294_967_296, ge=0, description="Bytes that may wait in all; 0: no limit.")
    queue_min_replicas: int = Field(
        0,
        ge=0,
        le=16,
        description="Replicas of Redis that must have a job before its push returns and before it is applied; 0: none.",
    )
    job_max_bytes: int = Field(1_048_576, ge=1024, le=67_108_864, description="Size of one encoded job, at most.")

    port: int = Field(8090, ge=0, le=65_535, description="Port of the HTTP endpoints; 0: a free one, told in the log.")
    bind_host: str = Field("0.0.0.0", description="Address that the HTTP endpoints listen on.")  # noqa: S104
    log_level: LogLevel = Field("INFO", description="`DEBUG`, `INFO`, `WARNING` or `ERROR`.")
    log_json: bool = Field(False, description="Logs as one JSON object a line.")
    data_dir: Path = Field(Path("data"), description="Where embedded engines keep their data.")
    embedded_redis_port: int = Field(
        0, ge=0, le=65_535, description="Port of the embedded Valkey, on 127.0.0.1; 0: a free one, told in the log."
    )
    embedded_optimize: bool = Field(
        False, description="Optimize the embedded vector engine's files when it starts; may take a while."
    )

    @property
    def limits(self) -> Limits:
        """What a job may measure."""
        return Limits(dimension=self.qdrant_vector_dimension, max_job_bytes=self.job_max_bytes)

    @field_validator(
        "redis_tls_ca_file",
        "redis_tls_cert_file",
        "redis_tls_key_file",
        "qdrant_tls_ca_file",
        "data_dir",
        mode="before",
    )
    @classmethod
    def _drop_quotes(cls, path: Any) -> Any:
        """Drop the quotes around a path, which docker run --env-file keeps."""
        if isinstance(path, str) and path[:1] in ("'", '"') and path[-1:] == path[:1]:
            return path[1:-1]
        return path

    @field_validator("qdrant_api_key")
    @classmethod
    def _check_api_key(cls, key: SecretStr | None) -> SecretStr | None:
        """Refuse what no header can carry, and what no key is: it would look like an outage."""
        text = key.get_secret_value() if key else "key"
        if not text.isascii() or not text.isprintable() or " " in text:
            raise ValueError("an API key consists of printable ASCII characters without blanks")
        if text[0] in "\"'":
            raise ValueError("it is in quotes; docker run --env-file, for one, keeps them")
        return key

    @property
    def namespaces(self) -> tuple[str, ...]:
        """The namespaces that belong to this deployment from the start."""
        named = (name.strip() for name in self.qdrant_namespaces.split(","))
        return tuple(dict.fromkeys(name for name in named if name))

    @model_validator(mode="after")
    def _check_collections(self) -> Self:
        memories, documents = self.qdrant_memories_collection, self.qdrant_documents_collection
        for namespace in self.namespaces:
            try:
                MEMORY.check_namespace(namespace)
            except InvalidJob as error:
                raise ValueError(f"QDRANT_NAMESPACES: {error.problem}") from None
        if memories == documents:
            raise ValueError("QDRANT_MEMORIES_COLLECTION and QDRANT_DOCUMENTS_COLLECTION must differ")
        namespace_too = namespace_of(documents, memories)
        if namespace_too is not None:
            raise ValueError(
                f"QDRANT_DOCUMENTS_COLLECTION ({documents}) is what the namespace {namespace_too!r} of "
                f"QDRANT_MEMORIES_COLLECTION ({memories}) would be called; rename one of them"
            )
        return self

    @model_validator(mode="after")
    def _check_between_fields(self) -> Self:
        if self.lease_ttl_s < self.qdrant_timeout_s + LEASE_MARGIN_S:
            raise ValueError(
                f"LEASE_TTL_S ({self.lease_ttl_s:g}) must be at least QDRANT_TIMEOUT_S ({self.qdrant_timeout_s:g}) "
                f"plus {LEASE_MARGIN_S:g}: a request must end before its lease does"
            )
        if self.retry_max_s < self.retry_base_s:
            raise ValueError("RETRY_MAX_S must not be below RETRY_BASE_S")
        if self.qdrant_write_consistency_factor > self.qdrant_replication_factor:
            raise ValueError("QDRANT_WRITE_CONSISTENCY_FACTOR must not exceed QDRANT_REPLICATION_FACTOR")
        if self.read_budget_bytes < 2 * self.read_max_bytes:
            raise ValueError(
                f"READ_BUDGET_BYTES ({self.read_budget_bytes}) must be at least twice READ_MAX_BYTES "
                f"({self.read_max_bytes}): half of it is for large answers"
            )
        if self.replies_max_bytes < self.read_max_bytes:
            raise ValueError("REPLIES_MAX_BYTES must not be below READ_MAX_BYTES")
        if (self.redis_tls_cert_file is None) != (self.redis_tls_key_file is None):
            raise ValueError("REDIS_TLS_CERT_FILE and REDIS_TLS_KEY_FILE need each other")
        return self


def load_settings(**overrides: Any) -> Settings:
    """Return the settings of the environment and of the files it names, with ``overrides`` by field name.

    Raises `ConfigurationError` naming each variable that is wrong or misspelt; it never shows a secret.
    """
    unknown = misspelt(os.environ, _known())
    if unknown:
        raise ConfigurationError("; ".join(f"{name}: unknown, did you mean {meant}?" for name, meant in unknown))
    given = texts(os.environ, _known())
    refuse_empty_addresses(os.environ, given, overrides)
    secrets, origins = secrets_from_files(given, secret_file_variables())
    try:
        return Settings(**{**secrets, **overrides})
    except pydantic.ValidationError as error:
        raise ConfigurationError("; ".join(_problem(found, origins) for found in error.errors())) from None


def foreign_variables() -> list[Unknown]:
    """Return the variables of the environment that look like settings, but are taken for another program's."""
    return foreign(os.environ, _known())


def variables() -> dict[str, str]:
    """Return the name of each setting's variable, with its description."""
    return {name.upper(): field.description or "" for name, field in Settings.model_fields.items()}


def secret_file_variables() -> dict[str, str]:
    """Return the name of each variable that names a file with a secret, with the field whose secret it is."""
    return {f"{name.upper()}_FILE": name for name, field in Settings.model_fields.items() if _is_secret(field)}


def _is_secret(field: FieldInfo) -> bool:
    return SecretStr in get_args(field.annotation)


def _known() -> set[str]:
    return {*variables(), *secret_file_variables()}


def _problem(error: Mapping[str, Any], origins: Mapping[str, str]) -> str:
    field = ".".join(str(part) for part in error["loc"])
    name = origins.get(field, field.upper())
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{name}: {message}" if name else message
