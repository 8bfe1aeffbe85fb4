"""One worker process: it connects its parts, runs its roles, and stops without losing work.

Here: the process and its supervision, the arq workers of the roles, maintenance, the wiring of parts from the settings.
Not here: the processing of jobs (`memory_worker.ingest`, `memory_worker.reads`).
"""
