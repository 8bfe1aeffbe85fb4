"""The load test: every path that users take, and what they would use instead, measured in one run.

Here: the load, the callers, the phases, the report. Not here: limits that a figure must meet, and studies that were
made once, whose results are in ``docs/benchmark.md``. Start to read with `run`.
"""
