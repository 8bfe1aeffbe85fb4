"""The demo: the whole system on one machine, on real sentences with real embeddings."""
