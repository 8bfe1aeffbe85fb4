"""The way of a write job: decode, plan, apply, commit.

Here: drains, batches, the plan of a batch, what an error means, retries. Not here: Redis commands
(`memory_worker.queue`) and Qdrant requests (`memory_worker.store`).
"""
