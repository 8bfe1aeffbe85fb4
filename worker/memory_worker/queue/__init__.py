"""The worker's side of the queue in Redis. Each operation is a typed function that runs one Lua script atomically.

Here: streams, leases, drain jobs, read jobs, dead letters, the replay guard, living processes, leader election, the
registry of collections. Not here: what producers also run (`memory_worker.wire`), and anything about Qdrant.
"""
