"""The console for operators: pages about the queue, the workers, the collections and the dead letters.

Here: the pages and their layout, masks of payloads, the login, replays and drops from a browser. Not here: how the
figures are collected (`memory_worker.inspection`), dead letters themselves (`memory_worker.queue`), and the server with
its limits (`memory_worker.http`). Start to read with `application`.
"""
