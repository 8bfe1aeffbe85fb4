"""The command line: one module for each command, which is loaded only when that command runs.

Here: options, tables, exit statuses, the generated reference. Not here: anything that a worker does, and any access to
Redis or Qdrant that another room has a function for.
"""
