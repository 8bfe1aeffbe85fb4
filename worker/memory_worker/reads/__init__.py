"""Read jobs: search, get and info.

Here: the handlers that answer each job with a reply, and the memory limits of replies. Not here: how read jobs wait in
Redis (`memory_worker.queue`).
"""
