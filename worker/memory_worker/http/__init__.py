"""The HTTP port of a worker: health and metrics.

Here: the server thread, and the pages. Not here: the values on the pages, which come from `memory_worker.telemetry` and
`memory_worker.inspection`.
"""
