"""Engines as child processes, for a machine without servers: Valkey, and a gRPC front over Qdrant Edge.

Here: the child processes, and the part of Qdrant's API that the worker uses, with the behaviour of a real server. Not
here: anything that only works with an embedded engine.
"""
