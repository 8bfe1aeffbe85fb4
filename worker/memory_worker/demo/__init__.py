"""The demo: real sentences with real vectors, pushed through embedded engines, searched, and checked.

Here: its data, and the tour through it. Not here: anything that a real deployment uses.
"""
