"""The state of a deployment, for commands, pages and Prometheus.

Here: the status of the queue and the collections, the stats collector, the checks of a deployment. Not here: anything
that changes the queue or a collection.
"""
