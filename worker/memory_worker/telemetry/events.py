"""The log events and their meanings, for the reference. Each is logged by `memory_worker.telemetry.logs.log_event`."""

from __future__ import annotations

from typing import Final

EVENTS: Final = {
    "arq_write_failed": "A write of arq's own client failed with an unexpected error. It was refused.",
    "arq_write_refused": "A write of arq's own client was refused. Its result is the error, and it becomes a dead "
    "letter. `reason` is pickled, too_large, malformed, unknown_function, invalid or internal.",
    "arq_writes_expired": "Writes of arq's own client had expired before a worker took them over. They are lost.",
    "arq_writes_wait": "Writes of arq's own client wait, because the queue is full or Redis fails. They are "
    "tried again.",
    "batch_applied": "A batch left the queue. `oldest_s` is the age of its oldest job.",
    "batch_failed": "A batch could not be applied, and no job is to blame. It is tried again after `retry_in_s`.",
    "collection_not_pinned": "Qdrant did not store the metadata of a collection. Only Redis records that the "
    "collection belongs to this deployment.",
    "collection_restored": "Redis had lost a collection from its registry. It was restored from the collection's "
    "metadata.",
    "console_action": "Somebody replayed or dropped dead letters in the console: one by its `receipt`, or all that "
    "match `filters`. `left` of them were refused. `session` is the login, `client` the address, and `forwarded_for` "
    "what a proxy says.",
    "console_failed": "A page of the console could not be made.",
    "console_login": "Somebody logged in to the console, or tried to. `outcome` is ok, wrong_password or limited.",
    "dead_letter": "A job can never be applied and became a dead letter. CRITICAL for a delete, a purge or a prune.",
    "drain_failed": "A drain failed with an error. Its partitions are drained again.",
    "embedded_engine": "An embedded engine is used. WARNING if the other server is not embedded, because then an "
    "address is probably missing.",
    "foreign_jobs_moved": "Jobs were in the wrong arq queue: jobs of another program, or writes in a queue of reads. "
    "They were moved to the queue of writes, where a worker takes them over or refuses them.",
    "http": "The HTTP server listens.",
    "lease_lost": "A drain lost its lease while it worked, because the process or Redis was too slow.",
    "lease_not_released": "A lease could not be released. It expires by itself.",
    "lease_taken_over": "The previous drain of the partition never ended: its worker was killed or froze.",
    "limits_published_again": "Redis had lost limits of the queue, so it has lost data.",
    "outage": "Batches cannot be applied, and no job is to blame. They are tried again, this one after `retry_in_s`. "
    "One line when it begins or `reason` changes, and one per minute.",
    "outage_over": "All batches that had failed in an outage have been applied.",
    "partition_held": "The oldest job of the partition needs another worker: `needs` is a newer contract version, or a "
    "kind that this worker does not have. The partition waits.",
    "progress": "What this process has done since the last such line, and the state of the queue. One line per 30 s, "
    "unless nothing happened. `read_p99_ms` is approximate.",
    "read_failed": "A read job failed with an unexpected error.",
    "read_job_failed": "A job in the search queue could not be run.",
    "read_result_lost": "The result of a failed job in the search queue could not be stored.",
    "redis_full": "Redis has no memory for writes. Partitions are drained one after another without new memory.",
    "redis_primary": "Sentinel or the cluster named another primary: at the start, or after a failover.",
    "redis_unsafe": "The settings of Redis can lose jobs.",
    "redis_unwell": "Redis does not answer or refuses writes. The worker exits after `REDIS_PATIENCE_S`.",
    "replies_without_room": "Redis has no room for large replies. Their callers get the error `unavailable`.",
    "rescued": "Partitions had jobs, but no worker drained them. They were given to a worker.",
    "role_restarts": "The loop of a role ended with an error and is started again.",
    "spans_lost": "The exporter of OpenTelemetry failed. Nothing but these spans is lost. At most one line per minute.",
    "started": "The worker is ready.",
    "stats_failed": "The queue stats could not be collected.",
    "stopped": "The worker has stopped.",
    "store_unavailable": "Qdrant did not answer when the worker started. The worker waits for it.",
    "tracing": "Spans are exported with OpenTelemetry.",
    "tracing_off": "The variables of OpenTelemetry ask for traces, but the extra `otel` is not installed.",
    "unknown_variable": "A variable looks like a setting but belongs to another program, so it has no effect.",
    "wake_failed": "Partitions could not be woken again. They will be rescued.",
}
