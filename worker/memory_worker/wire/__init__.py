"""What producers and workers share: connections to Redis, key names, and the scripts that producers run.

Here: push, call, waiting for a receipt, what workers publish for producers. Everything works with redis-py 5 to 8 and
without arq. Not here: what only a worker does (`memory_worker.queue`).
"""
