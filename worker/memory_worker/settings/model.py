"""All settings in one class. Each has its unit, its default and its special values."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, PrivateAttr, SecretStr, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from memory_worker.contract import Limits
from memory_worker.contract.errors import InvalidJob
from memory_worker.contract.kinds import MEMORY, Kinds
from memory_worker.settings.between_fields import check_between_fields
from memory_worker.settings.environment import texts
from memory_worker.settings.kinds_file import BUILT_IN, Specs, kinds_from, read_specs

Role = Literal["ingest", "search", "all"]
Quantization = Literal["none", "int8"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]

MOST_PARTITIONS = 1024


class _Environment(EnvSettingsSource):
    """Reads the environment: upper-case names, stripped values. An empty value counts as unset."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the value of a field, its key, and whether it is complex."""
        _, key, is_complex = super().get_field_value(field, field_name)
        name = field_name.upper()
        return texts(os.environ, [name]).get(name), key, is_complex


class Settings(BaseSettings):
    """The settings of a worker. `load_settings` makes them from the environment."""

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
    kinds_file: Path | None = Field(
        None,
        description="TOML file that describes the kinds of points (`docs/kinds.md`). It is read when the worker "
        "starts. If it is unset, the kinds are `memory` and `document`.",
    )
    qdrant_memories_collection: str = Field(
        "user_memories",
        pattern=r"^[A-Za-z0-9_-]{1,120}$",
        description="Collection of memories, unless `KINDS_FILE` names it. A namespace adds `_` and its name.",
    )
    qdrant_documents_collection: str = Field(
        "user_documents",
        pattern=r"^[A-Za-z0-9_-]{1,120}$",
        description="Collection of document chunks, unless `KINDS_FILE` names it.",
    )
    qdrant_namespaces: str = Field(
        "feedback_false_positive,feedback_positive",
        description="Namespaces of memories that belong to this deployment from the start, separated by commas. "
        "A purge reaches them if they exist. `,` means none. "
        "Any other namespace belongs to it once a job has written to it.",
    )
    qdrant_vector_dimension: int = Field(
        1024, ge=1, le=65_536, description="Dimension of vectors, unless `KINDS_FILE` names another one for their kind."
    )
    qdrant_quantization: Quantization = Field(
        "none",
        description="`int8`: scalar quantization (quantile 0.99, always in RAM). Searches then rescore with the full "
        "vectors. It saves memory only together with `QDRANT_ON_DISK=true`.",
    )
    qdrant_hnsw_m: int = Field(
        16,
        ge=0,
        le=512,
        description="HNSW: edges per node. 0: no graph over the points of all users. A search without a user then "
        "misses most points, but the worker never sends one.",
    )
    qdrant_hnsw_payload_m: int | None = Field(
        None,
        ge=0,
        le=512,
        description="HNSW: edges per node in the graph of one user. With `QDRANT_HNSW_M=0`, each large user gets a "
        "graph and nothing else is built (Qdrant 1.17 or newer). If it is unset, `QDRANT_HNSW_M` applies.",
    )
    qdrant_hnsw_ef_construct: int = Field(
        100, ge=4, le=10_000, description="HNSW: neighbours to consider while the graph is built."
    )
    qdrant_tenant_index: bool = Field(
        False,
        description="Write the user as the keyword `_tenant` into each point, and index it as Qdrant's tenant. "
        "Qdrant then stores the points of a user side by side.",
    )
    qdrant_on_disk: bool = Field(False, description="Keep vectors and the HNSW graph on disk.")
    qdrant_shard_number: int = Field(1, ge=1, le=1024, description="Shards (Qdrant cluster).")
    qdrant_replication_factor: int = Field(1, ge=1, le=64, description="Replicas of each shard (Qdrant cluster).")
    qdrant_write_consistency_factor: int = Field(
        1, ge=1, le=64, description="Replicas that must confirm a write (Qdrant cluster)."
    )

    worker_role: Role = Field(
        "all", description="Work of this process: `ingest` applies writes, `search` answers reads, `all` does both."
    )
    worker_concurrency: int = Field(
        4,
        ge=1,
        le=256,
        description="Batches in flight at once in one process. A batch holds jobs of one busy partition, "
        "or of many partitions with few jobs.",
    )
    worker_poll_ms: int = Field(
        50,
        ge=1,
        le=1000,
        description="Poll interval for partitions that are due but were not woken, in milliseconds.",
    )
    worker_grace_s: float = Field(
        10.0, gt=0, le=600, description="Time to finish the work in flight after SIGTERM, in seconds."
    )
    search_concurrency: int = Field(32, ge=1, le=1024, description="Read jobs that one process answers at once.")
    admin_concurrency: int = Field(
        2, ge=0, le=64, description="Reads of all users that one process answers at once. 0: none, others answer them."
    )
    search_max_waiting: int = Field(
        10_000, ge=0, description="Read jobs that may wait. Further ones are refused. 0: no limit."
    )
    read_max_bytes: int = Field(
        16_777_216,
        ge=65_536,
        le=536_870_912,
        description="Largest answer to one read, in bytes. A larger one becomes the error `too_large`.",
    )
    read_budget_bytes: int = Field(
        50_331_648,
        ge=131_072,
        le=17_179_869_184,
        description="Answers that one process may hold at once, in bytes. Large ones wait for room. "
        "Each byte takes about six bytes of memory. At least twice `READ_MAX_BYTES`.",
    )
    replies_max_bytes: int = Field(
        67_108_864,
        ge=65_536,
        description="Large replies that may wait in Redis, in bytes. Further ones become the error `unavailable`. "
        "At least `READ_MAX_BYTES`.",
    )
    search_poll_ms: int = Field(
        50,
        ge=1,
        le=1000,
        description="Poll interval for read jobs that woke no worker, such as arq's own, in milliseconds.",
    )

    batch_max_jobs: int = Field(256, ge=1, le=10_000, description="Most jobs in one batch to Qdrant.")
    batch_max_bytes: int = Field(
        4_194_304, ge=1024, le=268_435_456, description="Most bytes of jobs in one batch. One job always fits."
    )
    drain_slice_s: float = Field(
        2.0, gt=0, le=60, description="Time after which a drain lets other partitions go first, in seconds."
    )
    lease_ttl_s: float = Field(
        8.0, gt=0, le=600, description="Time that the partitions of a killed worker stay locked, in seconds."
    )
    arq_writes_poll_ms: int = Field(
        100,
        ge=0,
        le=60_000,
        description="Poll interval for writes of arq's own client, in milliseconds. 0: this process takes none over.",
    )
    rescue_interval_s: float = Field(
        1.0, gt=0, le=60, description="Interval between rescues of partitions that no worker drains, in seconds."
    )
    retry_base_s: float = Field(
        0.1, gt=0, le=60, description="First delay in an outage, in seconds. Each further delay doubles it."
    )
    retry_max_s: float = Field(4.0, gt=0, le=300, description="Longest delay in an outage, in seconds.")

    queue_prefix: str = Field(
        "mw",
        min_length=1,
        max_length=64,
        pattern=r"^[A-Za-z0-9_.-]*(\{[A-Za-z0-9_.-]+\}[A-Za-z0-9_.-]*)?$",
        description="Prefix of all keys in Redis, with up to 64 characters. "
        "In a Redis Cluster it needs a hash tag, such as `{mw}`.",
    )
    queue_partitions: int = Field(
        32,
        ge=1,
        le=MOST_PARTITIONS,
        description="Partitions of the queue. The first use fixes the number in Redis, and "
        "`memory-worker partitions` changes it.",
    )
    queue_max_jobs: int = Field(1_000_000, ge=0, description="Jobs that may wait. 0: no limit.")
    queue_max_bytes: int = Field(4_294_967_296, ge=0, description="Bytes of jobs that may wait. 0: no limit.")
    queue_min_replicas: int = Field(
        0,
        ge=0,
        le=16,
        description="Replicas of Redis that must have a job before its push returns and before it is applied.",
    )
    outcomes_max: int = Field(
        100_000,
        ge=0,
        le=10_000_000,
        description="Outcomes of jobs that are kept for readers, a few more or less. 0: none are written.",
    )
    job_max_bytes: int = Field(1_048_576, ge=1024, le=67_108_864, description="Most bytes of one encoded job.")

    port: int = Field(8090, ge=0, le=65_535, description="Port of the HTTP pages. 0: a free port, named in the log.")
    bind_host: str = Field("0.0.0.0", description="Address that the HTTP pages listen on.")  # noqa: S104
    log_level: LogLevel = Field("INFO", description="Lowest level that is logged.")
    log_json: bool = Field(False, description="Log each event as one JSON object per line.")
    data_dir: Path = Field(Path("data"), description="Directory of the embedded engines' data.")
    embedded_redis_port: int = Field(
        0, ge=0, le=65_535, description="Port of the embedded Valkey on 127.0.0.1. 0: a free port, named in the log."
    )
    embedded_optimize: bool = Field(
        False, description="Optimize the files of the embedded vector engine when it starts. This may take a while."
    )

    _specs: Specs = PrivateAttr(BUILT_IN)

    @property
    def limits(self) -> Limits:
        """The limits of a job."""
        return Limits(dimension=self.qdrant_vector_dimension, max_job_bytes=self.job_max_bytes, kinds=self.kinds)

    @property
    def kinds(self) -> Kinds:
        """The kinds of the deployment."""
        return kinds_from(
            self._specs,
            self.kinds_file,
            {"memory": self.qdrant_memories_collection, "document": self.qdrant_documents_collection},
        )

    @field_validator(
        "redis_tls_ca_file",
        "redis_tls_cert_file",
        "redis_tls_key_file",
        "qdrant_tls_ca_file",
        "kinds_file",
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
        """Refuse text that no header can carry and text in quotes. It would look like an outage later."""
        text = key.get_secret_value() if key else "key"
        if not text.isascii() or not text.isprintable() or " " in text:
            raise ValueError("an API key consists of printable ASCII characters without spaces")
        if text[0] in "\"'":
            raise ValueError("it is in quotes; remove them (docker run --env-file keeps quotes)")
        return key

    @property
    def namespaces(self) -> tuple[str, ...]:
        """The namespaces that belong to this deployment from the start."""
        named = (name.strip() for name in self.qdrant_namespaces.split(","))
        return tuple(dict.fromkeys(name for name in named if name))

    @model_validator(mode="after")
    def _check_kinds(self) -> Self:
        for namespace in self.namespaces:
            try:
                MEMORY.check_namespace(namespace)
            except InvalidJob as error:
                raise ValueError(f"QDRANT_NAMESPACES: {error.problem}") from None
        if self.kinds_file is not None:
            self._specs = read_specs(self.kinds_file)
        _ = self.kinds  # raises if they collide
        return self

    @model_validator(mode="after")
    def _check_between_fields(self) -> Self:
        check_between_fields(self)
        return self
