"""All settings. Each has its unit, its default and its special values."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, PrivateAttr, SecretStr, field_validator, model_validator

from memory_worker.contract import Limits
from memory_worker.contract.errors import InvalidJob
from memory_worker.contract.kinds import MEMORY, Kinds
from memory_worker.settings.between_fields import check_between_fields
from memory_worker.settings.environment import check_api_key, without_quotes
from memory_worker.settings.kinds_file import BUILT_IN, Specs, kinds_from, read_specs
from memory_worker.settings.servers import ServerSettings

Role = Literal["ingest", "search", "all"]
Quantization = Literal["none", "int8"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]

MOST_PARTITIONS = 1024


class Settings(ServerSettings):
    """The settings of a worker. `load_settings` makes them from the environment."""

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
    qdrant_hnsw_m: int | None = Field(
        None,
        ge=0,
        le=512,
        description="HNSW: edges per node in the graph over the points of all users. 0: no such graph. A search "
        "without a user then misses most points, but the worker never sends one. If it is unset: 0 on Qdrant 1.20 or "
        "newer, unless `QDRANT_HNSW_PAYLOAD_M` is 0, and the server's default on older ones.",
    )
    qdrant_hnsw_payload_m: int | None = Field(
        None,
        ge=0,
        le=512,
        description="HNSW: edges per node in the graph of one user. If it is unset: 16 where `QDRANT_HNSW_M` is unset "
        "and becomes 0, and `QDRANT_HNSW_M` otherwise.",
    )
    qdrant_hnsw_ef_construct: int = Field(
        100, ge=4, le=10_000, description="HNSW: neighbours to consider while the graph is built."
    )
    qdrant_indexing_threshold_kb: int | None = Field(
        None,
        ge=0,
        le=1_000_000_000,
        description="Size of vectors from which on Qdrant builds graphs, in KiB: of those in a segment and, if only "
        "users get graphs, of those of a user in it. Less is scanned. 0: no graphs. If it is unset: 100,000 if only "
        "users get graphs, and 400,000 otherwise.",
    )
    qdrant_tenant_index: bool = Field(
        True,
        description="Make the index on `user_id` Qdrant's tenant index. Qdrant then stores the points of a user side "
        "by side whenever it rebuilds a segment.",
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
        50, ge=1, le=1000, description="Poll interval for partitions that are due but not woken, in milliseconds."
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
    read_priority_requests: int = Field(
        1,
        ge=0,
        le=1000,
        description="Most batches of a worker on their way to Qdrant while searches and other reads are answered. "
        "0 is no limit: then nothing slows an import down, and searches wait longer.",
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
    queue_user_burst: int = Field(
        512,
        ge=0,
        le=1_000_000,
        description="With so many jobs, a partition has a long queue. Then a user who pushes as many again within a "
        "minute gets the overflow stream, so that the others need not wait. 0: nobody gets it.",
    )
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
    bind_host: str | None = Field(
        None,
        description="Address that the HTTP pages listen on. If it is unset: 127.0.0.1 if an engine is embedded "
        "(`REDIS_URL` or `QDRANT_URL` is unset), and all addresses (0.0.0.0) otherwise.",
    )
    log_level: LogLevel = Field("INFO", description="Lowest level that is logged.")
    log_json: bool = Field(False, description="Log each event as one JSON object per line.")
    console_enabled: bool = Field(
        True, description="Serve the console for operators at `/` on `PORT` (`docs/console.md`)."
    )
    console_password: SecretStr | None = Field(
        None,
        description="Password of the console, with at least 12 characters. All its pages ask for it. "
        "Or a file with it: `CONSOLE_PASSWORD_FILE`. If it is unset, anyone who reaches the port can read the pages.",
    )
    console_actions: bool = Field(
        False, description="Allow replays and drops of dead letters in the console. It needs `CONSOLE_PASSWORD`."
    )
    console_payloads: bool = Field(
        False, description="Show payload values of dead letters in the console. Otherwise they are masked."
    )
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
    def http_host(self) -> str:
        """The address that the HTTP pages listen on: ``BIND_HOST``, or what it means if it is unset.

        Embedded engines are for one machine, so their worker is not open to others unless it is told to be.
        """
        is_embedded = self.redis_url is None or self.qdrant_url is None
        return self.bind_host or ("127.0.0.1" if is_embedded else "0.0.0.0")  # noqa: S104

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
        return without_quotes(path)

    @field_validator("qdrant_api_key")
    @classmethod
    def _check_api_key(cls, key: SecretStr | None) -> SecretStr | None:
        if key:
            check_api_key(key.get_secret_value())
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
