"""The load test: what each path costs on a machine, our own paths and what would be used instead.

A module belongs here if it makes the load, measures it or reports it. A study of one question does not: only its
results are kept, in ``docs/benchmark.md``. Start with `run`, then `phases`.
"""
