"""Embedded engines for a machine without servers: Valkey, and a gRPC front over Qdrant Edge, as child processes.

Here: the child processes, and the part of Qdrant's API that the worker uses, with the behaviour of a real server. Not
here: any feature that only an embedded engine has.
"""
