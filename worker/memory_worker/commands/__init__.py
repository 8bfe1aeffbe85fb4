"""The command line: one module for each command, what they share, and the tables they print.

Nothing below this package imports it. A module is loaded when its command is run, because most of what commands need
takes a second to load.
"""
