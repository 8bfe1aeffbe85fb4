"""A queue-driven ingestion worker: memory writes and deletes from Redis into Qdrant, in batches, losing none."""

__version__ = "0.1.0"
