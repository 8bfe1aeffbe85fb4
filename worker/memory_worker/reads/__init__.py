"""The way of a read job: search, get and info, each answered with a reply.

Here: the handlers, and the limits of memory for replies. Not here: how read jobs wait in Redis (`memory_worker.queue`).
"""
