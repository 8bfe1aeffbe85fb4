"""Metrics, logs and health of a process.

Here: the definitions of metrics and log events, the format of log lines, the health of the components of a process. Not
here: the code that measures something. It is where the thing happens.
"""
