"""The Redis code that producers and workers share.

Here: connections, key names, push, read calls, waiting for a receipt, the limits that workers publish, and the Lua
scripts of producers. Everything works with redis-py 5 to 8 and without arq. Not here: what only a worker does
(`memory_worker.queue`).
"""
