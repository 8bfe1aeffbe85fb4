"""Qdrant over gRPC: collections, writes, searches and reads.

Here: requests, answers, and the meaning of errors. Not here: Redis, and the order and the retries of jobs.
"""
