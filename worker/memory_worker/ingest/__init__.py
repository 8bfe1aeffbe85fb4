"""Ingest: what a batch comes to (plan), and the drain that applies it. Here the queue and the store meet."""
