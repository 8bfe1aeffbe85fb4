"""The load test: every path that users take, beside what they would use instead, in one run.

Here: data, callers, measurements, the table. Not here: limits that a figure must meet, and studies that were made once.
"""
