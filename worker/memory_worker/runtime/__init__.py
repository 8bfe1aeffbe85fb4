"""One worker process: it reads the settings, connects the parts, runs the roles, and stops without losing work.

Here: the process and its supervision, the arq workers of the roles, maintenance, the wiring of parts. Not here: what
happens to a job (`memory_worker.ingest`, `memory_worker.reads`).
"""
