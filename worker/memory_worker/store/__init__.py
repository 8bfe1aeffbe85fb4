"""Qdrant over gRPC: collections, writes, queries.

Here: requests, answers, and what an error means. Not here: Redis, and the order or the retries of jobs.
"""
