"""Repairs of what is stored in Qdrant, for commands that run beside live workers.

Here: rekeying of points under integer ids, and the comparison of a collection with a manifest of the app.
Not here: what workers do by themselves (`memory_worker.runtime.maintenance`), and the checks of a deployment.
"""
