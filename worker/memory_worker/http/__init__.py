"""The HTTP port of a worker: health, metrics, and a page for people.

Here: the server thread, and the pages. Not here: the figures themselves, which `memory_worker.telemetry` and
`memory_worker.inspection` provide.
"""
