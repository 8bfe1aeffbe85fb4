"""The demo: it pushes real sentences with real vectors, searches them on embedded engines, and checks the answers.

Here: the data, and the tour. Not here: anything that a real deployment uses.
"""
