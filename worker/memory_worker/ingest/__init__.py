"""Write jobs, from the queue to Qdrant: decode, plan, apply, commit.

Here: drains, batches, the plan of a batch, the meaning of a failed request, retries. Not here: Redis commands
(`memory_worker.queue`) and Qdrant requests (`memory_worker.store`).
"""
