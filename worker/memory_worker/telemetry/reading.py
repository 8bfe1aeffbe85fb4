"""Read the values of this process's own metrics, for people instead of Prometheus."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import Counter, Histogram


def total(counter: Counter, **labels: str) -> float:
    """Return the sum of a counter over all series with these labels."""
    samples = (sample for metric in counter.collect() for sample in metric.samples)
    return sum(
        sample.value for sample in samples if sample.name.endswith("_total") and labels.items() <= sample.labels.items()
    )


def buckets(histogram: Histogram) -> dict[float, float]:
    """Return how many observations were at most as large as each bound, over all series of a histogram."""
    found: dict[float, float] = {}
    for metric in histogram.collect():
        for sample in metric.samples:
            if sample.name.endswith("_bucket"):
                bound = float(sample.labels["le"])
                found[bound] = found.get(bound, 0.0) + sample.value
    return found


def quantile(share: float, before: Mapping[float, float], after: Mapping[float, float]) -> float | None:
    """Return an approximate quantile of the observations between two readings of `buckets`, or ``None`` without any.

    ``share`` is between 0 and 1. As in Prometheus, observations are spread evenly within a bucket, and the largest
    finite bound is the most that is returned.
    """
    counts = {bound: count - before.get(bound, 0.0) for bound, count in sorted(after.items())}
    wanted = share * max(counts.values(), default=0.0)
    lower = below = 0.0
    for bound, count in counts.items():
        if count > 0 and count >= wanted:
            return lower if bound == float("inf") else lower + (bound - lower) * (wanted - below) / (count - below)
        lower, below = bound, count
    return None
