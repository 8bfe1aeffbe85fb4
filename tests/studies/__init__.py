"""Studies: scripts that measure a real server once, for a decision or a table in the docs.

pytest does not collect them. Each prints Markdown and its own command line. Run one with
``python -m tests.studies.NAME``.
"""
