"""The wire contract: the jobs that a producer may push, in any language.

Here: jobs and their limits, kinds, payloads, vectors, results, and all errors. Not here: anything that uses Redis or
Qdrant.

A job is a map with an ``op``. It is encoded as MessagePack or as JSON, and the first byte shows which. A vector is
float32 little-endian bytes in MessagePack, base64 of the same bytes in JSON, or a list of numbers in either.

    job         one request of the main app
    write job   upsert, delete, purge, patch or prune: an entry of a stream; the jobs of a user are applied in order
    read job    search, get, list, count and others: answered at once
    point       one memory or document chunk; its logical id is ``point_id``
    kind        memory, document, or one from a file (see `memory_worker.contract.kinds`)
    receipt     the result of a push: partition and entry id

Decoding checks types. `checked` checks everything else. Both raise `InvalidJob`, which names the field. If ``kind``,
``namespace``, ``category``, ``group_key`` or ``file_id`` is absent, a job may reach all of them. Null never means that.
"""

from __future__ import annotations

from memory_worker.contract.checks import (
    check_size,
    checked,
    unknown_kind,
)
from memory_worker.contract.conditions import (
    Condition,
    Where,
    matches,
)
from memory_worker.contract.encoding import (
    CONTRACT_VERSION,
    convert_read,
    decode_write,
    encode_job,
    encode_write,
    json_schema,
    normalize_job,
    op_of,
    partition_of,
    version_of,
)
from memory_worker.contract.fields import (
    MAX_POINT_IDS,
    MAX_SEARCH_LIMIT,
    MAX_TIMEOUT_MS,
    FieldCondition,
)
from memory_worker.contract.jobs import (
    Delete,
    Limits,
    Patch,
    Prune,
    Purge,
    Upsert,
    WriteJob,
)
from memory_worker.contract.payloads import (
    MAX_KEY_CHARACTERS,
    MAX_PAYLOAD_DEPTH,
    MAX_PAYLOAD_FIELDS,
    MAX_PAYLOAD_VALUES,
)
from memory_worker.contract.read_jobs import (
    AdminJob,
    Count,
    CountAll,
    Facet,
    FacetAll,
    Files,
    Get,
    Health,
    Info,
    List,
    ListAll,
    ReadJob,
    Search,
    SearchMany,
    SelectingJob,
    Stats,
)
from memory_worker.contract.results import (
    CollectionInfo,
    FacetCounts,
    FacetValue,
    FileInfo,
    HealthReport,
    Hit,
    JobState,
    Outcome,
    Page,
    Point,
    QueueReport,
    ReadError,
    Receipt,
    Reply,
    SearchResult,
    UserStats,
    check_receipt,
)

__all__ = [
    "CONTRACT_VERSION",
    "MAX_KEY_CHARACTERS",
    "MAX_PAYLOAD_DEPTH",
    "MAX_PAYLOAD_FIELDS",
    "MAX_PAYLOAD_VALUES",
    "MAX_POINT_IDS",
    "MAX_SEARCH_LIMIT",
    "MAX_TIMEOUT_MS",
    "AdminJob",
    "CollectionInfo",
    "Condition",
    "Count",
    "CountAll",
    "Delete",
    "Facet",
    "FacetAll",
    "FacetCounts",
    "FacetValue",
    "FieldCondition",
    "FileInfo",
    "Files",
    "Get",
    "Health",
    "HealthReport",
    "Hit",
    "Info",
    "JobState",
    "Limits",
    "List",
    "ListAll",
    "Outcome",
    "Page",
    "Patch",
    "Point",
    "Prune",
    "Purge",
    "QueueReport",
    "ReadError",
    "ReadJob",
    "Receipt",
    "Reply",
    "Search",
    "SearchMany",
    "SearchResult",
    "SelectingJob",
    "Stats",
    "Upsert",
    "UserStats",
    "Where",
    "WriteJob",
    "check_receipt",
    "check_size",
    "checked",
    "convert_read",
    "decode_write",
    "encode_job",
    "encode_write",
    "json_schema",
    "matches",
    "normalize_job",
    "op_of",
    "partition_of",
    "unknown_kind",
    "version_of",
]
