"""Embedded engines for one machine: Valkey, and Qdrant Edge behind Qdrant's gRPC, each a child process.

``engines.py`` starts, shares and ends them; the rest is the front that makes Edge look like a Qdrant server.
Nothing happens on import.
"""
