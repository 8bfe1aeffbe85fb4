"""The wire contract: what a producer may push, in any language.

A job is a map with an ``op``, encoded as MessagePack or as JSON; the first byte tells which. A vector is float32
little-endian bytes in MessagePack, base64 of the same bytes in JSON, or a list of numbers in either.

    job         one request of the main app
    write job   upsert, delete, purge: an entry of a stream, applied in the order of its user
    read job    search, get, info: answered at once
    point       one memory or document chunk; its logical id is ``point_id``
    kind        memory or document (see `memory_worker.contract.kinds`)
    receipt     what a push returns: partition and entry id

Decoding checks types; `checked` checks what types cannot say. Both raise `InvalidJob`, which names the field. An absent
``kind``, ``namespace``, ``category``, ``group_key`` or ``file_id`` may mean all there are; an explicit null never does.
"""

from __future__ import annotations

from memory_worker.contract.checks import check_size, checked
from memory_worker.contract.encoding import (
    CONTRACT_VERSION,
    checked_read,
    convert_read,
    decode_write,
    encode_checked,
    encode_job,
    encode_plain,
    json_schema,
    op_of,
    partition_of,
    plain_job,
)
from memory_worker.contract.jobs import (
    MAX_POINT_IDS,
    MAX_SEARCH_LIMIT,
    MAX_TIMEOUT_MS,
    Delete,
    Get,
    Info,
    Limits,
    Purge,
    ReadJob,
    Search,
    Upsert,
    WriteJob,
)
from memory_worker.contract.payloads import (
    MAX_KEY_CHARACTERS,
    MAX_PAYLOAD_DEPTH,
    MAX_PAYLOAD_FIELDS,
    MAX_PAYLOAD_VALUES,
)
from memory_worker.contract.results import CollectionInfo, Hit, Point, ReadError, Receipt, Reply, check_receipt

__all__ = [
    "CONTRACT_VERSION",
    "MAX_KEY_CHARACTERS",
    "MAX_PAYLOAD_DEPTH",
    "MAX_PAYLOAD_FIELDS",
    "MAX_PAYLOAD_VALUES",
    "MAX_POINT_IDS",
    "MAX_SEARCH_LIMIT",
    "MAX_TIMEOUT_MS",
    "CollectionInfo",
    "Delete",
    "Get",
    "Hit",
    "Info",
    "Limits",
    "Point",
    "Purge",
    "ReadError",
    "ReadJob",
    "Receipt",
    "Reply",
    "Search",
    "Upsert",
    "WriteJob",
    "check_receipt",
    "check_size",
    "checked",
    "checked_read",
    "convert_read",
    "decode_write",
    "encode_checked",
    "encode_job",
    "encode_plain",
    "json_schema",
    "op_of",
    "partition_of",
    "plain_job",
]
