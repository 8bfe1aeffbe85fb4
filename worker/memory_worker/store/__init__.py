"""Qdrant over gRPC: the one path to the engine, whether it is a server, a cluster or the embedded one."""
