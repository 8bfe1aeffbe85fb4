"""The worker's side of the queue in Redis. Each operation is a typed function with its Lua script, one atomic step.

Here: streams, leases, drain jobs, dead letters, the replay guard, which processes are alive. Not here: what producers
run too (`memory_worker.wire`), and any knowledge of Qdrant.
"""
