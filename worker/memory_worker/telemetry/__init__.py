"""Metrics, logs and health of a process.

Here: the definition of every metric, the format of log lines, the state of the parts a process depends on. Not here:
the code that observes something; it lies where the thing happens.
"""
